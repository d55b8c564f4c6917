// The e-step of a mixture (responsibilities and moments), and log-densities alone.
#pragma once

#include "sparse_moments.hpp"
#include "moments.hpp"

namespace {

// Turn joint log-densities into w_n gamma_nk, which is 0 if the log-density is below the point's
// largest by more than `negligible`. Add to sum_n w_n log p(x_n). Return the number of nonzero terms.
int64_t weigh(const Tile& tile, int64_t K, double negligible, double* weight, double* log_likelihood) {
    int64_t pairs = 0;
    vdouble score[DOUBLES] = {};
    for (int64_t v = 0; v < VECTORS; ++v) {
        vdouble most = tile.row(tile.joint, 0)[v], sum = {};
        for (int64_t k = 1; k < K; ++k) {
            vdouble here = tile.row(tile.joint, k)[v];
            most = here > most ? here : most;
        }
        for (int64_t k = 0; k < K; ++k) {
            vdouble& here = tile.row(tile.joint, k)[v];
            const vlong matters = most - here < negligible;
            const unsigned lanes = mask(matters);
            here = lanes ? (vdouble)((vlong)exponential(here - most) & matters) : (vdouble){};
            sum += here;
            pairs += __builtin_popcount(lanes);
        }
        const vdouble w = ((vdouble*)tile.w.data)[v], factor = w / sum;
        for (int64_t k = 0; k < K; ++k) tile.row(tile.joint, k)[v] *= factor;
        score[0] += w * (most + logarithm(sum));
    }
    *log_likelihood += sums(score)[0];
    for (int64_t k = 0; k < K; k += DOUBLES) {
        vdouble part[DOUBLES] = {};
        for (int64_t j = 0; j < DOUBLES && k + j < K; ++j)
            for (int64_t v = 0; v < VECTORS; ++v) part[j] += tile.row(tile.joint, k + j)[v];
        *(vdouble*)(weight + k) += sums(part);
    }
    return pairs;
}

// Write the sums in the shapes for Python: (K,), (K, D), and (K, D, D), (D, D) or (K, D).
void unpack(const Sums& from, const Active& active, double* weight, double* first, double* second) {
    const int64_t D = from.D;
    for (int64_t k = 0; k < from.K; ++k) {
        weight[k] = from.weight.data[k];
        for (int64_t d = 0; d < D; ++d) first[k * D + d] = from.first.data[k * from.width + d];
    }
    for (int64_t k = 0; k < (from.shared ? 1 : from.K); ++k) {
        const double* s = from.second_of(k);
        if (!from.matrix) {
            for (int64_t d = 0; d < D; ++d) second[k * D + d] = s[d];
            continue;
        }
        for (int64_t i = 0; i < D; i += ROWS)
            for (int64_t j = 0; j < i + ROWS; j += COLUMNS, s += ROWS * COLUMNS)
                for (int64_t r = i; r < i + ROWS && r < D; ++r)
                    for (int64_t c = j; c < j + COLUMNS && c <= r; ++c)
                        second[(k * D + r) * D + c] = second[(k * D + c) * D + r] =
                            s[(r - i) * COLUMNS + c - j] + active.cell(k, r, c);
    }
}

template <typename X>
bool mixture_step(const X* x, const double* w, int64_t N, const Gaussians& g, double* weight,
                  double* first, double* second, double* log_likelihood) {
    Tile tile(g.K, g.D);
    Sums total(g);
    const Active active(g);
    Apart apart(g);
    bool whole = !apart.usable;
    if (!tile.ok() || !total.ok() || !active.ok() || !apart.ok()) return false;
    const double negligible = active.worth() || apart.usable ? NEGLIGIBLE : NEVER;
    *log_likelihood = 0.0;
    for (int64_t start = 0; start < N; start += PACK, x += PACK * g.D, w += PACK) {
        const int64_t n = N - start < PACK ? N - start : PACK;
        if (!whole && apart.step(x, w, n, total, log_likelihood)) continue;
        tile.load(x, w, n, g.D);
        log_joint(tile, g);
        const int64_t pairs = weigh(tile, g.K, negligible, total.weight.data, log_likelihood);
        const bool few = active.worth() && pairs < g.K * PACK / 2;
        whole = !apart.usable || pairs > apart.most_pairs;
        for (int64_t k = 0; k < g.K; ++k) {
            double *one = total.first.data + k * total.width, *two = total.second_of(k);
            if (few) active.scatter(x, tile, k, one);
            else if (g.matrix) scatter_matrix(tile, g, k, one, two);
            else scatter_diagonal(tile, g, k, one, two);
        }
    }
    unpack(total, active, weight, first, second);
    return true;
}

template <typename X>
bool log_gaussians(const X* x, int64_t N, const Gaussians& g, double* out) {
    Tile tile(g.K, g.D);
    if (!tile.ok()) return false;
    for (int64_t start = 0; start < N; start += PACK) {
        const int64_t n = N - start < PACK ? N - start : PACK;
        tile.load(x + start * g.D, nullptr, n, g.D);
        log_joint(tile, g);
        for (int64_t p = 0; p < n; ++p)
            for (int64_t k = 0; k < g.K; ++k)
                out[(start + p) * g.K + k] = tile.joint.data[k * PACK + p];
    }
    return true;
}

}  // namespace
