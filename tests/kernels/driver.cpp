// Runs the kernels on cases from a file, for processors that Python isn't run on here.
//
// A case is N, K, D and what to do (see the test), X, w and centroids, and for a mixture log-weights
// and factors, all 64 bits wide; the results follow each other in the order of the arguments.
#include <stdint.h>
#include <stdio.h>
#include <vector>

#include "kmeans.hpp"

typedef std::vector<double> Array;

extern "C" {
int kmeans_step_baseline(const KmeansStep*);
int mixture_step_baseline(int, const void*, const double*, int64_t, int64_t, int64_t, int, int,
                          const double*, const double*, const double*, double*, double*, double*,
                          double*);
}

static FILE *from, *to;

static Array read(int64_t n) {
    Array values(n);
    if (fread(values.data(), 8, n, from) != (size_t)n) values.clear();
    return values;
}

static void write(const Array& values) { fwrite(values.data(), 8, values.size(), to); }

static void kmeans(int64_t N, int64_t K, int64_t D, bool single) {
    const Array X = read(N * D), w = read(N), C = read(K * D);
    const std::vector<float> narrow(X.begin(), X.end());
    const void* x = single ? (const void*)narrow.data() : (const void*)X.data();
    std::vector<int64_t> labels(N);
    Array sqdist(N), weight(K), first(K * D), inertia(1);
    const KmeansStep step = {single, N, K, D, x, w.data(), C.data(), weight.data(), first.data(),
                             labels.data(), sqdist.data(), inertia.data()};
    kmeans_step_baseline(&step);
    fwrite(labels.data(), 8, N, to);
    write(sqdist), write(weight), write(first), write(inertia);
}

static void mixture(int64_t N, int64_t K, int64_t D, bool matrix, bool shared) {
    const int64_t cells = (shared ? 1 : K) * D * (matrix ? D : 1);
    const Array X = read(N * D), w = read(N), means = read(K * D), log_weights = read(K),
                root = read(cells);
    Array weight(K), first(K * D), second(cells), log_likelihood(1);
    mixture_step_baseline(0, X.data(), w.data(), N, K, D, matrix, shared, log_weights.data(),
                          means.data(), root.data(), weight.data(), first.data(), second.data(),
                          log_likelihood.data());
    write(weight), write(first), write(second), write(log_likelihood);
}

int main(int, char** names) {
    from = fopen(names[1], "rb"), to = fopen(names[2], "wb");
    int64_t head[4];
    while (fread(head, 8, 4, from) == 4) {
        const int64_t N = head[0], K = head[1], D = head[2], what = head[3];
        if (what < 2) kmeans(N, K, D, what);
        else mixture(N, K, D, what < 4, what == 3);
    }
    return fclose(to);
}
