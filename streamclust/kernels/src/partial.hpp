// K-means of points with missing values, by partial distances; and which points have some. The formulas
// are in models/partial.py.
#pragma once

#include "share.hpp"

namespace {

// Write the rows of points without a missing value, and of those with one; returns the number of the
// former.
template <typename X>
int64_t split_rows(const X* x, int64_t N, int64_t D, int64_t* complete, int64_t* gappy) {
    int64_t whole = 0;
    for (int64_t n = 0; n < N; ++n, x += D) {
        bool missing = false;
        vlong any = {};
        int64_t d = 0;
        for (; d + DOUBLES <= D; d += DOUBLES) {
            const vdouble values = load(x + d);
            any |= values != values;
        }
        for (; d < D; ++d) missing |= x[d] != x[d];
        missing |= mask(any) != 0;
        complete[whole] = n, gappy[n - whole] = n;
        whole += !missing;
    }
    return whole;
}

// The squared differences of the present values of one point to all centroids, added from the first
// feature on. `centroids` (D, vectors) has centroids across lanes.
template <typename X>
void partial_distances(const X* x, const int64_t* present, int64_t o, const vdouble* centroids, int64_t vectors,
                       vdouble* out) {
    constexpr int64_t SOME = 4;
    for (int64_t v = 0; v < vectors; v += SOME) {
        vdouble sum[SOME] = {};
        const vdouble* from[SOME];
        for (int64_t j = 0; j < SOME; ++j) from[j] = centroids + (v + j < vectors ? v + j : v);
        for (int64_t i = 0; i < o; ++i) {
            const vdouble value = broadcast((double)x[present[i]]);
            for (int64_t j = 0; j < SOME; ++j) {
                const vdouble difference = value - from[j][present[i] * vectors];
                sum[j] += difference * difference;
            }
        }
        for (int64_t j = 0; j < SOME && v + j < vectors; ++j) out[v + j] = sum[j];
    }
}

// The first of the least distances. Lanes beyond K have copies of the last centroid.
inline int64_t first_least(const vdouble* distances, int64_t vectors) {
    vdouble best = distances[0];
    vlong where = {};
    for (int64_t v = 1; v < vectors; ++v) {
        const vlong less = distances[v] < best;
        best = distances[v] < best ? distances[v] : best;
        where = (where & ~less) | (less & v);
    }
    int64_t lane = 0;
    for (int64_t l = 1; l < DOUBLES; ++l)
        if (best[l] < best[lane] || (best[l] == best[lane] && where[l] < where[lane])) lane = l;
    return where[lane] * DOUBLES + lane;
}

// The step for the points `rows` (n,), which have gaps. The coordinate of the nearest centroid stands for
// a missing value, so it adds nothing to the moments about the centroid. Weight and moments may be null.
template <typename X>
bool partial_step(const X* x, const double* w, const int64_t* rows, int64_t n, int64_t K, int64_t D,
                  const double* C, double* weight, double* first, int64_t* labels, double* sqdist,
                  double* inertia) {
    const int64_t vectors = (K + DOUBLES - 1) / DOUBLES, sums = weight ? K * (D + 1) : 0;
    Buffer<double> centroids(D * vectors * DOUBLES), distances(vectors * DOUBLES), chunk(sums);
    Buffer<int64_t> present(D);
    if (!centroids.ok() || !distances.ok() || !chunk.ok() || !present.ok()) return false;
    for (int64_t d = 0; d < D; ++d)
        for (int64_t k = 0; k < vectors * DOUBLES; ++k)
            centroids.data[d * vectors * DOUBLES + k] = C[(k < K ? k : K - 1) * D + d];
    for (int64_t start = 0; start < n; start += CHUNK) {
        for (int64_t i = 0; i < sums; ++i) chunk.data[i] = 0.0;
        for (int64_t i = start; i < n && i < start + CHUNK; ++i) {
            const X* from = x + rows[i] * D;
            int64_t o = 0;
            for (int64_t d = 0; d < D; ++d) present.data[o] = d, o += from[d] == from[d];
            partial_distances(from, present.data, o, (const vdouble*)centroids.data, vectors, (vdouble*)distances.data);
            const int64_t best = first_least((const vdouble*)distances.data, vectors);
            const double distance = distances.data[best] * ((double)D / (double)o);
            labels[rows[i]] = best, sqdist[rows[i]] = distance;
            if (!weight) continue;
            const double share = w[rows[i]];
            double* to = chunk.data + K + best * D;
            chunk.data[best] += share;
            for (int64_t j = 0; j < o; ++j)
                to[present.data[j]] += share * ((double)from[present.data[j]] - C[best * D + present.data[j]]);
            *inertia += share * distance;
        }
        if (!weight) continue;
        add(weight, chunk.data, K);
        add(first, chunk.data + K, K * D);
    }
    return true;
}

}  // namespace
