// The K-means step, and other calls that divide points among threads: nearest centroids, distances.
//
// Sums are those of chunks of CHUNK points, added in their order. Each chunk is summed in the order of
// its points, except for the inertia: eight lanes, point n in lane n mod 8.
#pragma once

#include "kmeans.hpp"

namespace {

template <typename X>
const X* points_from(const KmeansStep& step, int64_t start) {
    return (const X*)step.x + start * step.D;
}

struct Inertia {
    double lanes[8] = {};

    void add(const double* w, const double* sqdist, int64_t n) {
        for (int64_t i = 0; i < n; ++i) lanes[i % 8] += w[i] * sqdist[i];
    }

    double sum() const {
        double sum = 0.0;
        for (double lane : lanes) sum += lane;
        return sum;
    }
};

// Assign the points of a chunk and add them while they are in cache. Returns the inertia. Without
// labels in the step, the assignments are dropped.
template <typename X>
double step_chunk(const KmeansStep& step, const X* x, int64_t start, int64_t n, Search& search,
                  double* weight, double* first) {
    Inertia inertia;
    int64_t own_labels[CACHED];
    double own_sqdist[CACHED];
    for (const int64_t end = start + n; start < end; start += CACHED) {
        const int64_t here = end - start < CACHED ? end - start : CACHED;
        int64_t* labels = step.labels ? step.labels + start : own_labels;
        double* sqdist = step.labels ? step.sqdist + start : own_sqdist;
        kmeans_assign(x, here, search, labels, sqdist);
        accumulate(x, step.w + start, labels, here, step.D, step.C, weight, first);
        inertia.add(step.w + start, sqdist, here);
        x += here * step.D;
    }
    return inertia.sum();
}

// Each thread computes whole chunks.
template <typename X>
struct StepByChunks {
    static constexpr bool ORDERED = true;
    const KmeansStep& step;
    Places sums;  // K weights, K first moments, the inertia

    explicit StepByChunks(const KmeansStep& step) : step(step), sums(step.K * (step.D + 1) + 1) {}

    struct Scratch : Search {
        explicit Scratch(const StepByChunks& work)
            : Search(work.step.C, work.step.K, work.step.D, work.step.single) {}
    };

    bool reserve(int64_t places) { return sums.reserve(places); }

    bool range(Search& search, int64_t start, int64_t n, int64_t place) {
        double *weight = sums.cleared(place), *first = weight + step.K;
        first[step.K * step.D] =
            step_chunk(step, points_from<X>(step, start), start, n, search, weight, first);
        return true;
    }

    void retire(int64_t, int64_t place) {
        const double *weight = sums.at(place), *first = weight + step.K;
        add(step.weight, weight, step.K);
        add(step.first, first, step.K * step.D);
        *step.inertia += first[step.K * step.D];
    }
};

// The threads only assign, in short ranges; the points are added in the order of the ranges. This is
// for few chunks, where the points are a small part of the work.
template <typename X>
struct AssignThenAdd {
    static constexpr bool ORDERED = true;
    static constexpr int64_t SIZE = 512;
    const KmeansStep& step;
    Places sums;  // of one chunk
    Inertia inertia;

    explicit AssignThenAdd(const KmeansStep& step) : step(step), sums(step.K * (step.D + 1)) {}

    struct Scratch : Search {
        explicit Scratch(const AssignThenAdd& work)
            : Search(work.step.C, work.step.K, work.step.D, work.step.single) {}
    };

    bool reserve(int64_t) {
        if (!sums.reserve(1)) return false;
        sums.cleared(0);
        return true;
    }

    bool range(Search& search, int64_t start, int64_t n, int64_t) {
        kmeans_assign(points_from<X>(step, start), n, search, step.labels + start, step.sqdist + start);
        return true;
    }

    void retire(int64_t number, int64_t) {
        const int64_t start = number * SIZE, end = start + SIZE < step.N ? start + SIZE : step.N;
        double *weight = sums.at(0), *first = weight + step.K;
        accumulate(points_from<X>(step, start), step.w + start, step.labels + start, end - start, step.D,
                   step.C, weight, first);
        inertia.add(step.w + start, step.sqdist + start, end - start);
        if (end % CHUNK && end < step.N) return;
        add(step.weight, weight, step.K);
        add(step.first, first, step.K * step.D);
        *step.inertia += inertia.sum();
        inertia = Inertia();
        sums.cleared(0);
    }
};

template <typename X>
bool kmeans_step(const KmeansStep& step) {
    const double work = (double)step.N * (double)step.K * (double)step.D;
    const int64_t chunks = chunks_of(step.N), threads = worth(work, step.threads);
    *step.inertia = 0.0;
    if (threads > 1 && chunks < 2 * threads && step.K >= MANY) {
        const Buffer<int64_t> labels(step.labels ? 0 : step.N);
        const Buffer<double> sqdist(step.labels ? 0 : step.N);
        if (!labels.ok() || !sqdist.ok()) return false;
        KmeansStep assigned = step;
        if (!step.labels) assigned.labels = labels.data, assigned.sqdist = sqdist.data;
        AssignThenAdd<X> shared(assigned);
        return share(shared, step.N, AssignThenAdd<X>::SIZE, threads);
    }
    if (chunks > 1) {
        StepByChunks<X> shared(step);
        return share(shared, step.N, CHUNK, threads, shared.sums.size * sizeof(double));
    }
    Search search(step.C, step.K, step.D, step.single);
    if (!search.ok()) return false;
    *step.inertia = step_chunk(step, points_from<X>(step, 0), 0, step.N, search, step.weight, step.first);
    return true;
}

// The same for points in a file. Each chunk is read into the same memory, which stays in cache.
template <typename X>
struct StepOfFile : StepByChunks<X> {
    bool cut_off;  // whether the file has ended before its last point

    explicit StepOfFile(const KmeansStep& step) : StepByChunks<X>(step), cut_off(false) {}

    struct Scratch : Search {
        Buffer<X> points;
        explicit Scratch(const StepOfFile& work)
            : Search(work.step.C, work.step.K, work.step.D, work.step.single),
              points((work.step.N < CHUNK ? work.step.N : CHUNK) * work.step.D) {}
        bool ok() const { return Search::ok() && points.ok(); }
    };

    bool range(Scratch& scratch, int64_t start, int64_t n, int64_t place) {
        const KmeansStep& step = this->step;
        double *weight = this->sums.cleared(place), *first = weight + step.K;
        if (!read_points(step, start, n, scratch.points.data)) {
            cut_off = true;
            return false;
        }
        first[step.K * step.D] = step_chunk(step, scratch.points.data, start, n, scratch, weight, first);
        return true;
    }
};

// 0, 1 if there wasn't enough memory, or 2 if the file was cut off.
template <typename X>
int kmeans_step_of_file(const KmeansStep& step) {
    const double work = (double)step.N * (double)step.K * (double)step.D;
    StepOfFile<X> shared(step);
    *step.inertia = 0.0;
    if (share(shared, step.N, CHUNK, worth(work, step.threads), shared.sums.size * sizeof(double))) return 0;
    return shared.cut_off ? 2 : 1;
}

// The sums of points that have labels.
template <typename X>
struct SumsByChunks : StepByChunks<X> {
    using StepByChunks<X>::StepByChunks;

    struct Scratch {
        explicit Scratch(const SumsByChunks&) {}
        static bool ok() { return true; }
    };

    bool range(Scratch&, int64_t start, int64_t n, int64_t place) {
        const KmeansStep& step = this->step;
        double* weight = this->sums.cleared(place);
        accumulate(points_from<X>(step, start), step.w + start, step.labels + start, n, step.D, step.C,
                   weight, weight + step.K);
        return true;
    }
};

template <typename X>
bool cluster_sums(const KmeansStep& step) {
    *step.inertia = 0.0;
    if (step.N <= CHUNK) {
        accumulate((const X*)step.x, step.w, step.labels, step.N, step.D, step.C, step.weight, step.first);
        return true;
    }
    SumsByChunks<X> shared(step);
    const int64_t threads = worth((double)step.N * (double)step.D, step.threads);
    return share(shared, step.N, CHUNK, threads, shared.sums.size * sizeof(double));
}

// Nearest centroids alone.
template <typename X>
struct AssignOnly : Unordered {
    static constexpr int64_t SIZE = 2048;
    const KmeansStep& step;

    explicit AssignOnly(const KmeansStep& step) : step(step) {}

    struct Scratch : Search {
        explicit Scratch(const AssignOnly& work)
            : Search(work.step.C, work.step.K, work.step.D, work.step.single) {}
    };

    bool range(Search& search, int64_t start, int64_t n, int64_t) {
        kmeans_assign(points_from<X>(step, start), n, search, step.labels + start, step.sqdist + start);
        return true;
    }
};

template <typename X>
bool assign(const KmeansStep& step) {
    if (step.N <= FEW) {
        scan_all((const X*)step.x, step.N, step.C, step.K, step.D, step.labels, step.sqdist);
        return true;
    }
    AssignOnly<X> shared(step);
    const double work = (double)step.N * (double)step.K * (double)step.D;
    return share(shared, step.N, AssignOnly<X>::SIZE, worth(work, step.threads));
}

// All distances, (N, K); they are written to `sqdist`.
template <typename X>
struct AllDistances : AssignOnly<X> {
    using AssignOnly<X>::AssignOnly;

    struct Scratch : Codebook {
        explicit Scratch(const AllDistances& work) : Codebook(work.step.C, work.step.K, work.step.D) {}
    };

    bool range(Codebook& book, int64_t start, int64_t n, int64_t) {
        const KmeansStep& step = this->step;
        all_distances(points_from<X>(step, start), n, book, step.sqdist + start * step.K);
        return true;
    }
};

template <typename X>
bool squared_distances(const KmeansStep& step) {
    AllDistances<X> shared(step);
    const double work = (double)step.N * (double)step.K * (double)step.D;
    return share(shared, step.N, AssignOnly<X>::SIZE, worth(work, step.threads));
}

}  // namespace
