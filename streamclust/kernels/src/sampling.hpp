// A systematic sample of points by their sensitivity, in the order of the points.
//
// s_n = w_n / (K W_k) + w_n d_n / sum w d, where W_k is the weight of the point's cluster. Intervals of
// the lengths min(1, tau s_n) are put on a line, and a grid picks the points whose intervals it meets.
// The order of operations is fixed, so that all targets and NumPy pick the same points.
#pragma once

#include <math.h>

#include "simd.hpp"

namespace {

// Return the number of picked points; -1 if a label isn't a cluster.
int64_t sample(const double* w, const int64_t* labels, const double* sqdist, int64_t N, int64_t K,
               double size, double start, double* share, int64_t* picked, double* probability) {
    for (int64_t k = 0; k < K; ++k) share[k] = 0.0;
    double cost = 0.0;
    for (int64_t n = 0; n < N; ++n) {
        const int64_t k = labels[n];
        if (k < 0 || k >= K) return -1;
        share[k] += w[n];
        cost += w[n] * sqdist[n];
    }
    double present = 0.0;
    for (int64_t k = 0; k < K; ++k) present += share[k] > 0.0;
    const bool spread = cost > 0.0;
    const double tau = size / (present / (double)K + (spread ? 1.0 : 0.0));
    for (int64_t k = 0; k < K; ++k) share[k] = tau / (share[k] * (double)K);
    if (!spread) cost = 1.0;  // all costs are 0
    int64_t count = 0, likeliest = 0;
    double sum = 0.0, next = 1.0, most = -1.0;
    for (int64_t n = 0; n < N; ++n) {
        double p = w[n] * share[labels[n]] + tau * (w[n] * sqdist[n] / cost);
        p = p < 1.0 ? p : 1.0;
        sum += p;
        if (p > most) {
            most = p;
            likeliest = n;
        }
        if (sum + start < next) continue;
        next = floor(sum + start) + 1.0;
        picked[count] = n;
        probability[count++] = p;
    }
    if (count == 0 && N > 0) {
        picked[count] = likeliest;
        probability[count++] = most;
    }
    return count;
}

}  // namespace
