// Runs a library of kernels without Python: reads cases that kernel_cases.py has written, and
// compares every result bit for bit, on 1, 2 and 3 threads.
//
//     kernel_driver LIBRARY places             prints the vector's places, which the cases depend on
//     kernel_driver LIBRARY CASES [RUNTIME [kmpc]]
//                                              on threads of the OpenMP runtime (by LLVM's
//                                              interface, even if it has GNU's), else on its own
#ifndef _WIN32
#include <dlfcn.h>
#else
#include <windows.h>
#endif

#include <cstdio>
#include <cstdlib>

#include "conv_lines.h"

namespace {

#ifndef _WIN32
void* opened(const char* path) {
    void* library = dlopen(path, RTLD_NOW);
    if (!library) fprintf(stderr, "%s\n", dlerror()), exit(2);
    return library;
}
void* found(void* library, const char* name) { return dlsym(library, name); }
#else
void* opened(const char* path) {
    void* library = reinterpret_cast<void*>(LoadLibraryA(path));
    if (!library) fprintf(stderr, "%s does not load: %lu\n", path, GetLastError()), exit(2);
    return library;
}
void* found(void* library, const char* name) {
    return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
#endif

template <class F>
F function(void* library, const char* name) {
    void* address = found(library, name);
    if (!address) fprintf(stderr, "there is no %s\n", name), exit(2);
    return reinterpret_cast<F>(address);
}

void share_threads(void* library, const char* path, bool kmpc) {
    void* runtime = opened(path);
    if (!kmpc && found(runtime, "GOMP_parallel"))
        function<decltype(&use_gomp)>(library, "use_gomp")(
            function<decltype(Runtime::gomp_parallel)>(runtime, "GOMP_parallel"),
            function<decltype(Runtime::gomp_barrier)>(runtime, "GOMP_barrier"),
            function<int (*)()>(runtime, "omp_get_thread_num"),
            function<int (*)()>(runtime, "omp_get_num_threads"));
    else
        function<decltype(&use_kmpc)>(library, "use_kmpc")(
            function<decltype(Runtime::kmpc_fork_call)>(runtime, "__kmpc_fork_call"),
            function<decltype(Runtime::kmpc_push_num_threads)>(runtime,
                                                               "__kmpc_push_num_threads"),
            function<decltype(Runtime::kmpc_global_thread_num)>(runtime,
                                                                "__kmpc_global_thread_num"),
            function<decltype(Runtime::kmpc_barrier)>(runtime, "__kmpc_barrier"),
            function<int (*)()>(runtime, "omp_get_thread_num"),
            function<int (*)()>(runtime, "omp_get_num_threads"));
}

typedef std::vector<char> Bytes;

bool read(FILE* file, Bytes& bytes) {
    int64_t size;
    if (fread(&size, sizeof size, 1, file) != 1) return false;
    bytes.resize(size + 64);  // a vector may extend past an array's end
    if (size && fread(bytes.data(), size, 1, file) != 1) exit(2);
    bytes.resize(size);
    return true;
}

const char* const NAMES[] = {"linear_forward", "linear_grad_input", "linear_grad_weight",
                             "conv2d_forward", "conv2d_grad_input", "conv2d_grad_weight",
                             "linear_grads"};

// One case: numbers, the 17 arrays of a plan's tables, two operands and the result. Both gradients at
// once take grad and x as their first operand, and give that of x and then that of the weights.
struct Case {
    int64_t number[9];  // function, bytes of a number, batch, rows of both operands, plan, maps
    Geometry geometry;
    Bytes tables[17], first, second, result;

    bool read_from(FILE* file) {
        Bytes head;
        if (!read(file, head)) return false;
        memcpy(number, head.data(), sizeof number);
        memcpy(&geometry, head.data() + sizeof number, sizeof geometry);
        for (Bytes& table : tables) read(file, table);
        return read(file, first) && read(file, second) && read(file, result);
    }
    template <class N>
    const N* table(int i) const {
        return reinterpret_cast<const N*>(tables[i].data());
    }
    Columns columns(int i) const {
        return {table<int64_t>(i), table<int32_t>(i + 1), table<int32_t>(i + 2)};
    }
    int run(void* library, Bytes& out, int64_t threads) const {
        Plan plan = {number[5], number[6], number[7], table<int64_t>(0), table<int64_t>(1),
                     {table<int64_t>(2), table<int64_t>(3), table<int32_t>(4), nullptr,
                      table<int64_t>(5)},
                     {table<int64_t>(6), table<int64_t>(7), table<int32_t>(8), table<int64_t>(9),
                      table<int64_t>(10)},
                     columns(11), columns(14)};
        char name[64];
        snprintf(name, sizeof name, "%s_%s", NAMES[number[0]], number[1] == 4 ? "f32" : "f64");
        const void *a = first.data(), *b = second.data();
        if (number[0] < 2)
            return function<int (*)(const Plan*, const void*, int64_t, int64_t, const void*, void*,
                                    int64_t)>(library, name)(&plan, a, number[3], number[2], b,
                                                             out.data(), threads);
        if (number[0] == 2)
            return function<int (*)(const Plan*, const void*, int64_t, const void*, int64_t,
                                    int64_t, void*, int64_t)>(library, name)(
                &plan, a, number[3], b, number[4], number[2], out.data(), threads);
        if (number[0] == 6)
            return function<int (*)(const Plan*, const void*, int64_t, const void*, int64_t,
                                    int64_t, const void*, void*, void*, int64_t)>(library, name)(
                &plan, a, number[3], first.data() + number[1] * number[2] * number[3], number[4],
                number[2], b, out.data(), out.data() + number[1] * number[2] * number[4], threads);
        return function<int (*)(const Plan*, const Geometry*, const void*, const void*, void*,
                                int64_t)>(library, name)(&plan, &geometry, a, b, out.data(),
                                                         threads);
    }
};

}  // namespace

int main(int count, char** given) {
    if (count < 3) return 2;
    void* library = opened(given[1]);
    if (!strcmp(given[2], "places")) {
        printf("%d %d\n", function<int (*)()>(library, "places_f32")(),
               function<int (*)()>(library, "places_f64")());
        return 0;
    }
    if (count > 3) share_threads(library, given[3], count > 4);
    FILE* file = fopen(given[2], "rb");
    if (!file) return 2;
    int cases = 0;
    for (Case one; one.read_from(file); ++cases)
        for (int64_t threads = 1; threads <= 3; ++threads) {
            Bytes out(one.result.size(), char(0x7f));
            int code = one.run(library, out, threads);
            if (code || memcmp(out.data(), one.result.data(), out.size())) {
                fprintf(stderr, "case %d, %s, %d bytes, %d threads: code %d, %s\n", cases,
                        NAMES[one.number[0]], int(one.number[1]), int(threads), code,
                        code ? "refused" : "the result differs");
                return 1;
            }
        }
    printf("%d products agree on 1, 2 and 3 threads\n", cases);
    return cases ? 0 : 1;
}
