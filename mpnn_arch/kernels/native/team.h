// The threads of a product: a team runs one function and meets at barriers.
//
// The library links no OpenMP runtime. A second one beside torch's would bring threads of its own,
// which compute while torch's spin in wait of their next region, on the same cores. So the loader
// hands over the functions of the runtime that torch runs on (`use_gomp`, `use_kmpc`), and a team
// is made of torch's own threads. Without one, a team is started for each call and joined at its
// end: nothing stays behind to be idle, or to be missing after a fork.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

// What a library shows; all else is compiled with hidden visibility.
#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

// The first argument of every function of LLVM's and Intel's runtime: where the region is written.
struct KmpcSource {
    int32_t reserved, flags, more[2];
    const char* text;
};
typedef void (*KmpcBody)(int32_t* thread, int32_t* in_team, void* data);

// Functions of an OpenMP runtime, by its interface: GNU's (libgomp; LLVM's too, but on Windows), or
// LLVM's and Intel's (libomp, libiomp5). Null where there is none.
struct Runtime {
    void (*gomp_parallel)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
    void (*gomp_barrier)();
    void (*kmpc_fork_call)(KmpcSource*, int32_t count, KmpcBody body, ...);
    void (*kmpc_push_num_threads)(KmpcSource*, int32_t thread, int32_t threads);
    int32_t (*kmpc_global_thread_num)(KmpcSource*);
    void (*kmpc_barrier)(KmpcSource*, int32_t thread);
    int (*thread_num)();
    int (*num_threads)();
};
inline Runtime runtime = {};
inline KmpcSource kmpc_source = {0, 2, {0, 0}, ";unknown;unknown;0;0;;"};

// Where threads of our own wait for each other.
class Meeting {
  public:
    void wait(int64_t size) {
        std::unique_lock<std::mutex> lock(mutex);
        int64_t turn = turns;
        if (++arrived == size) {
            arrived = 0;
            ++turns;
            all.notify_all();
        } else {
            all.wait(lock, [&] { return turns != turn; });
        }
    }

  private:
    std::mutex mutex;
    std::condition_variable all;
    int64_t arrived = 0, turns = 0;
};

// One thread's view of its team.
struct Team {
    int64_t me, size;
    Meeting* meeting;  // of threads of our own
    int32_t thread;    // in LLVM's count

    // Returns when all threads of the team have called it.
    void barrier() const {
        if (size == 1) return;
        if (meeting) meeting->wait(size);
        else if (runtime.gomp_barrier) runtime.gomp_barrier();
        else runtime.kmpc_barrier(&kmpc_source, thread);
    }
    // Calls body(i) for 0 <= i < count, each on one thread, and returns when all are done.
    template <class Body>
    void each(int64_t count, Body body) const {
        for (int64_t i = count * me / size, end = count * (me + 1) / size; i < end; ++i) body(i);
        barrier();
    }
};

template <class Body>
void run_on_own_threads(int threads, Body& body) {
    Meeting meeting;
    std::mutex gate;
    std::vector<std::thread> others;
    int64_t size = 1;
    std::unique_lock<std::mutex> closed(gate);
    try {
        others.reserve(threads - 1);
        for (int i = 1; i < threads; ++i) {
            others.emplace_back([&, i] {
                gate.lock();  // until it is known how many threads there are
                gate.unlock();
                body(Team{i, size, &meeting, 0});
            });
            ++size;
        }
    } catch (const std::exception&) {
        // No more threads than these.
    }
    closed.unlock();
    body(Team{0, size, &meeting, 0});
    for (std::thread& other : others) other.join();
}

// Calls body(team) on at most `threads` threads at once.
template <class Body>
void parallel(int threads, Body body) {
    if (threads <= 1) {
        body(Team{0, 1, nullptr, 0});
    } else if (runtime.gomp_parallel) {
        auto run = [](void* data) {
            (*static_cast<Body*>(data))(
                Team{runtime.thread_num(), runtime.num_threads(), nullptr, 0});
        };
        runtime.gomp_parallel(run, &body, unsigned(threads), 0);
    } else if (runtime.kmpc_fork_call) {
        auto run = [](int32_t* thread, int32_t*, void* data) {
            (*static_cast<Body*>(data))(
                Team{runtime.thread_num(), runtime.num_threads(), nullptr, *thread});
        };
        int32_t thread = runtime.kmpc_global_thread_num(&kmpc_source);
        runtime.kmpc_push_num_threads(&kmpc_source, thread, threads);
        runtime.kmpc_fork_call(&kmpc_source, 1, KmpcBody(run), static_cast<void*>(&body));
    } else {
        run_on_own_threads(threads, body);
    }
}

extern "C" {

// Threads of the runtime whose functions these are. Called before the first product.
EXPORT __attribute__((used)) inline void use_gomp(decltype(Runtime::gomp_parallel) parallel,
                                                  decltype(Runtime::gomp_barrier) barrier,
                                                  int (*thread_num)(), int (*num_threads)()) {
    runtime = {};
    runtime.gomp_parallel = parallel, runtime.gomp_barrier = barrier;
    runtime.thread_num = thread_num, runtime.num_threads = num_threads;
}

EXPORT __attribute__((used)) inline void use_kmpc(
    decltype(Runtime::kmpc_fork_call) fork_call,
    decltype(Runtime::kmpc_push_num_threads) push_num_threads,
    decltype(Runtime::kmpc_global_thread_num) global_thread_num,
    decltype(Runtime::kmpc_barrier) barrier, int (*thread_num)(), int (*num_threads)()) {
    runtime = {};
    runtime.kmpc_fork_call = fork_call, runtime.kmpc_push_num_threads = push_num_threads;
    runtime.kmpc_global_thread_num = global_thread_num, runtime.kmpc_barrier = barrier;
    runtime.thread_num = thread_num, runtime.num_threads = num_threads;
}

// Threads started for each call.
EXPORT __attribute__((used)) inline void use_own_threads() { runtime = {}; }

}  // extern "C"
