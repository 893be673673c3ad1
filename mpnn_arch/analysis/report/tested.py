"""What was tested and how: the page's account of its methods."""

TESTED = """
<dl>
<dt>The paper's rule</dt>
<dd>Bins of C closed on the right and of L closed on the left. The best bin is the one of lowest
mean error; kept is every occupied bin that is not worse in a one-tailed two-sample t-test with
equal variances at p = 0.05, over all errors of its graphs. With one graph per bin, the same over
graphs and their training seeds. The sweet spot is the rectangle around what was kept.</dd>
<dt>Many comparisons</dt>
<dd>Holm's and Benjamini and Hochberg's corrections of the rule's p-values. They exclude less, so
their regions are wider. The <em>simultaneous</em> region answers another question: which bins may
be the best? Bins are judged by the means of their graphs, which are independent where the seeds
of one graph are not; all share one deviation; a bin is left out when its largest standardised
difference to any other is beyond the 95th percentile under equal means (Gupta; Hsu). It is called
a sweet spot only where a one-way analysis of variance finds the means to differ.</dd>
<dt>Seeds paired</dt>
<dd>The rule with paired t-tests over training seeds, and the shares of variance that graph, seed
and chance hold in a two-way analysis.</dd>
<dt>Bootstrap region</dt>
<dd>The rule on 500 resamples of the graphs within their bins; with one graph per bin, on means and
deviations drawn from the normal model.</dd>
<dt>Effect size</dt>
<dd>Differences of means with Welch's interval, and Hedges' g. Against the baseline g is in
deviations of single runs; between graphs in deviations of their means.</dd>
<dt>Selection bias</dt>
<dd>The best graph chosen on some training seeds, its error reported on the others, over every
split; and the error expected of the best if trained again, by shrinking all means towards their
mean by the share of variance that is luck.</dd>
<dt>Structure or density</dt>
<dd>Density enters as a cubic of its logarithm, C and L as a second-degree surface. What they add
is tested by an F-test, by resampling graphs, and by exchanging the errors that density leaves
among graphs of about equal density (Freedman and Lane). The interval is of the resamples less
their excess, as any features add something to the errors at hand. The baseline is left out. A
ladder of nested regressions shows what the degrees add to density, and C and L to both.</dd>
<dt>Smooth function</dt>
<dd>Second-degree regressions along the paper's two slices with confidence bands. Surfaces,
Gaussian processes and single measures are judged by the share of the variance between graphs that
they predict in ten-fold cross-validation. The ceiling is one less the share of that variance
which is chance in the training seeds, what a seed does to all graphs alike left out.</dd>
<dt>Agreement</dt>
<dd>Pearson's and Spearman's correlation over the coarse bins that two results share, C's bins
closed on the left, so that the complete graph is a bin of its own; 95 % by Fisher's
transformation. Beyond density: the same of what each side's own density curve leaves, without the
baseline.</dd>
<dt>Few graphs, few epochs</dt>
<dd>Correlation of the bin means of k graphs with those of all, for published lists and for random
graphs spread over the bins; correlation over graphs of epoch t with the last, also between
different training seeds. Racing halves the graphs at epochs e, 2e, 4e and so on.</dd>
<dt>False alarms and power</dt>
<dd>Results with the same graphs, seeds and deviations are made up around a flat landscape and
around bowls of several depths, and every rule is applied to them.</dd>
</dl>
"""
