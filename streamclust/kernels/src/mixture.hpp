// The e-step of Gaussian mixtures in float64: points across lanes, a tile of them at a time.
//
// Full and tied covariances by the inverse of their Cholesky factor, diagonal ones by the inverse
// of their standard deviations (spherical ones are given as diagonal). Tiles are added up in the
// order of the points, so a caller who cuts the points at multiples of PACK may share them out.
#pragma once

#include <math.h>

#include "simd.hpp"

namespace {

constexpr int PACK = 128;                     // points of a tile
constexpr int VECTORS = PACK / DOUBLES;       // the same in vectors
constexpr int ROWS = 4;                       // rows of a matrix that are worked on together
constexpr int COLUMNS = BYTES == 64 ? 4 : 2;  // columns likewise, as registers allow
constexpr double FARTHEST = 1e200;            // see twin.py
constexpr double LOG_2PI = 1.8378770664093454836;

struct Gaussians {
    int64_t K, D;
    bool matrix, shared;  // a matrix a component rather than a diagonal; one for all components
    int64_t size;         // cells of one whitener
    const double* means;
    Buffer<double> whitener, constant;  // and log weight - log det L - D/2 log 2 pi, of shape (K,)

    Gaussians(int64_t K, int64_t D, bool matrix, bool shared, const double* log_weights,
              const double* means, const double* root)
        : K(K), D(D), matrix(matrix), shared(shared), size(matrix ? packed(D) : D), means(means),
          whitener((shared ? 1 : K) * size), constant(K) {
        Buffer<double> inverse(matrix ? D * D : 1);
        if (!inverse.ok() || !ok()) return;
        double log_det = 0.0;
        for (int64_t k = 0; k < K; ++k) {
            if (!k || !shared) log_det = prepare(root + k * (matrix ? D * D : D), k, inverse.data);
            constant.data[k] = log_weights[k] - log_det - 0.5 * (double)D * LOG_2PI;
        }
    }

    bool ok() const { return whitener.ok() && constant.ok(); }

    const double* whitener_of(int64_t k) const { return whitener.data + (shared ? 0 : k * size); }

    // Cells of a lower triangle in blocks of ROWS rows, each with all columns up to its last row.
    static int64_t packed(int64_t D) {
        int64_t cells = 0;
        for (int64_t i = 0; i < D; i += ROWS) cells += ROWS * (i + ROWS < D ? i + ROWS : D);
        return cells;
    }

    double prepare(const double* root, int64_t k, double* inverse) {
        double* to = whitener.data + k * size;
        double log_det = 0.0;
        for (int64_t i = 0; i < D; ++i) log_det += log(root[matrix ? i * D + i : i]);
        if (!matrix) {
            for (int64_t i = 0; i < D; ++i) to[i] = 1.0 / root[i];
            return log_det;
        }
        invert(root, inverse);
        for (int64_t i = 0; i < D; i += ROWS)
            for (int64_t j = 0; j < (i + ROWS < D ? i + ROWS : D); ++j)
                for (int64_t r = i; r < i + ROWS; ++r)
                    *to++ = r < D && j <= r ? inverse[r * D + j] : 0.0;
        return log_det;
    }

    // The lower triangle of the inverse of a lower triangle, row by row.
    void invert(const double* L, double* W) const {
        for (int64_t i = 0; i < D; ++i) {
            const double pivot = 1.0 / L[i * D + i];
            for (int64_t j = 0; j <= i; ++j) W[i * D + j] = j == i ? pivot : 0.0;
            for (int64_t m = 0; m < i; ++m) {
                const double factor = -L[i * D + m] * pivot;
                for (int64_t j = 0; j <= m; ++j) W[i * D + j] += factor * W[m * D + j];
            }
        }
    }
};

// e^x for x <= 0, 0 below -708: Cody and Waite's reduction and the Taylor series.
inline vdouble exponential(vdouble x) {
    const vdouble magic = broadcast(0x1.8p52);
    vdouble shifted = x * 1.4426950408889634074 + magic;
    vdouble n = shifted - magic;
    vdouble r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    vdouble sum = broadcast(1.0 / 6227020800.0);
    constexpr double factors[] = {1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0,
                                  1.0 / 362880.0,    1.0 / 40320.0,    1.0 / 5040.0,
                                  1.0 / 720.0,       1.0 / 120.0,      1.0 / 24.0,
                                  1.0 / 6.0,         0.5,              1.0,
                                  1.0};
    for (double factor : factors) sum = fma(sum, r, broadcast(factor));
    vlong scale = ((vlong)shifted + 1023) << 52;
    return x > -708.0 ? sum * (vdouble)scale : (vdouble){};
}

// One tile's points (D, PACK), their joint log-densities (K, PACK), and room for (x - mu).
struct Tile {
    Buffer<double> points, joint, difference, scaled, w;

    Tile(int64_t K, int64_t D)
        : points(D * PACK), joint(K * PACK), difference(rounded_up(D, ROWS) * PACK),
          scaled(rounded_up(D, ROWS) * PACK), w(PACK) {
        if (!ok()) return;
        for (int64_t i = D * PACK; i < rounded_up(D, ROWS) * PACK; ++i)
            difference.data[i] = scaled.data[i] = 0.0;
    }

    bool ok() const {
        return points.ok() && joint.ok() && difference.ok() && scaled.ok() && w.ok();
    }

    // Missing points are the first one, with weight 0.
    template <typename X>
    void load(const X* x, const double* weight, int64_t n, int64_t D) {
        for (int64_t p = 0; p < PACK; ++p) {
            const X* from = x + (p < n ? p : 0) * D;
            for (int64_t d = 0; d < D; ++d) points.data[d * PACK + p] = (double)from[d];
            w.data[p] = p < n && weight ? weight[p] : 0.0;
        }
    }

    vdouble* row(const Buffer<double>& of, int64_t i) const { return (vdouble*)of.data + i * VECTORS; }
};

// |L^-1 (x - mu)|^2 of POINT_VECTORS vectors of points.
inline void whiten_matrix(const Tile& tile, const Gaussians& g, int64_t k, int64_t start, vdouble* out) {
    constexpr int V = POINT_VECTORS;
    const double* mean = g.means + k * g.D;
    const double* w = g.whitener_of(k);
    vdouble* difference = (vdouble*)tile.difference.data;
    for (int64_t d = 0; d < g.D; ++d)
        for (int v = 0; v < V; ++v)
            difference[d * V + v] = tile.row(tile.points, d)[start + v] - mean[d];
    for (int64_t i = 0; i < g.D; i += ROWS) {
        vdouble sum[ROWS][V] = {};
        const int64_t end = i + ROWS < g.D ? i + ROWS : g.D;
        const vdouble* x = difference;
        for (int64_t j = 0; j < end; ++j, w += ROWS, x += V)
            for (int r = 0; r < ROWS; ++r) {
                const vdouble weight = broadcast(w[r]);
                for (int v = 0; v < V; ++v) sum[r][v] = fma(x[v], weight, sum[r][v]);
            }
        for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < V; ++v) out[v] = fma(sum[r][v], sum[r][v], out[v]);
    }
}

inline void whiten_diagonal(const Tile& tile, const Gaussians& g, int64_t k, int64_t start, vdouble* out) {
    const double* mean = g.means + k * g.D;
    const double* w = g.whitener_of(k);
    for (int64_t d = 0; d < g.D; ++d)
        for (int v = 0; v < POINT_VECTORS; ++v) {
            vdouble whitened = (tile.row(tile.points, d)[start + v] - mean[d]) * w[d];
            out[v] = fma(whitened, whitened, out[v]);
        }
}

// log pi_k N(x | mu_k, Sigma_k) for all points of the tile and all components.
void log_joint(const Tile& tile, const Gaussians& g) {
    for (int64_t start = 0; start < VECTORS; start += POINT_VECTORS)
        for (int64_t k = 0; k < g.K; ++k) {
            vdouble square[POINT_VECTORS] = {};
            if (g.matrix) whiten_matrix(tile, g, k, start, square);
            else whiten_diagonal(tile, g, k, start, square);
            for (int v = 0; v < POINT_VECTORS; ++v) {
                // NaN comes from an overflow within the sum: it is as far.
                vdouble distance = square[v] < FARTHEST ? square[v] : broadcast(FARTHEST);
                tile.row(tile.joint, k)[start + v] = g.constant.data[k] - 0.5 * distance;
            }
        }
}

// Turn joint log-densities into w_n gamma_nk, and return sum_n w_n log p(x_n).
double weigh(const Tile& tile, int64_t K, double* weight) {
    alignas(64) double total[PACK], top[PACK];
    for (int64_t v = 0; v < VECTORS; ++v) {
        vdouble most = tile.row(tile.joint, 0)[v], sum = {};
        for (int64_t k = 1; k < K; ++k) {
            vdouble here = tile.row(tile.joint, k)[v];
            most = here > most ? here : most;
        }
        for (int64_t k = 0; k < K; ++k) {
            vdouble share = exponential(tile.row(tile.joint, k)[v] - most);
            tile.row(tile.joint, k)[v] = share;
            sum += share;
        }
        vdouble factor = *((vdouble*)tile.w.data + v) / sum;
        for (int64_t k = 0; k < K; ++k) tile.row(tile.joint, k)[v] *= factor;
        ((vdouble*)total)[v] = sum;
        ((vdouble*)top)[v] = most;
    }
    double log_likelihood = 0.0;
    for (int p = 0; p < PACK; ++p) log_likelihood += tile.w.data[p] * (top[p] + log(total[p]));
    for (int64_t k = 0; k < K; k += DOUBLES) {
        vdouble part[DOUBLES] = {};
        for (int64_t j = 0; j < DOUBLES && k + j < K; ++j)
            for (int64_t v = 0; v < VECTORS; ++v) part[j] += tile.row(tile.joint, k + j)[v];
        *(vdouble*)(weight + k) += sums(part);
    }
    return log_likelihood;
}

// First and second moments: first (K, D padded), second in blocks of ROWS x COLUMNS of the lower
// triangle, or (K, D padded) for a diagonal.
struct Sums {
    int64_t K, D, width, size;
    bool matrix, shared;
    Buffer<double> weight, first, second;

    Sums(const Gaussians& g)
        : K(g.K), D(g.D), width(rounded_up(D, DOUBLES)), size(g.matrix ? blocks(D) : width),
          matrix(g.matrix), shared(g.shared), weight(rounded_up(K, DOUBLES)), first(K * width),
          second((shared ? 1 : K) * size) {
        if (!ok()) return;
        for (int64_t i = 0; i < rounded_up(K, DOUBLES); ++i) weight.data[i] = 0.0;
        for (int64_t i = 0; i < K * width; ++i) first.data[i] = 0.0;
        for (int64_t i = 0; i < (shared ? 1 : K) * size; ++i) second.data[i] = 0.0;
    }

    bool ok() const { return weight.ok() && first.ok() && second.ok(); }

    static int64_t blocks(int64_t D) {
        int64_t cells = 0;
        for (int64_t i = 0; i < D; i += ROWS) cells += ROWS * (i + ROWS);
        return cells;
    }

    double* second_of(int64_t k) const { return second.data + (shared ? 0 : k * size); }
};

// (x - mu) and gamma (x - mu) of a whole tile, and the first moment.
void differences(const Tile& tile, const Gaussians& g, int64_t k, double* first) {
    const vdouble* share = tile.row(tile.joint, k);
    const double* mean = g.means + k * g.D;
    for (int64_t d = 0; d < g.D; d += DOUBLES) {
        vdouble part[DOUBLES] = {};
        for (int64_t j = 0; j < DOUBLES && d + j < g.D; ++j) {
            const vdouble* x = tile.row(tile.points, d + j);
            vdouble *difference = tile.row(tile.difference, d + j), *scaled = tile.row(tile.scaled, d + j);
            for (int64_t v = 0; v < VECTORS; ++v) {
                difference[v] = x[v] - mean[d + j];
                scaled[v] = share[v] * difference[v];
                part[j] += scaled[v];
            }
        }
        *(vdouble*)(first + d) += sums(part);
    }
}

void scatter_matrix(const Tile& tile, const Gaussians& g, int64_t k, double* first, double* second) {
    differences(tile, g, k, first);
    for (int64_t i = 0; i < g.D; i += ROWS)
        for (int64_t j = 0; j < i + ROWS; j += COLUMNS, second += ROWS * COLUMNS) {
            vdouble part[ROWS * COLUMNS] = {};
            const vdouble *a = tile.row(tile.scaled, i), *b = tile.row(tile.difference, j);
            for (int64_t v = 0; v < VECTORS; ++v)
                for (int r = 0; r < ROWS; ++r)
                    for (int c = 0; c < COLUMNS; ++c) {
                        vdouble& sum = part[r * COLUMNS + c];
                        sum = fma(a[r * VECTORS + v], b[c * VECTORS + v], sum);
                    }
            for (int s = 0; s < ROWS * COLUMNS; s += DOUBLES)
                *(vdouble*)(second + s) += sums(part + s);
        }
}

void scatter_diagonal(const Tile& tile, const Gaussians& g, int64_t k, double* first, double* second) {
    const vdouble* share = tile.row(tile.joint, k);
    const double* mean = g.means + k * g.D;
    for (int64_t d = 0; d < g.D; d += DOUBLES) {
        vdouble one[DOUBLES] = {}, two[DOUBLES] = {};
        for (int64_t j = 0; j < DOUBLES && d + j < g.D; ++j) {
            const vdouble* x = tile.row(tile.points, d + j);
            for (int64_t v = 0; v < VECTORS; ++v) {
                vdouble difference = x[v] - mean[d + j];
                vdouble scaled = share[v] * difference;
                one[j] += scaled;
                two[j] = fma(scaled, difference, two[j]);
            }
        }
        *(vdouble*)(first + d) += sums(one);
        *(vdouble*)(second + d) += sums(two);
    }
}

// Write the sums as Python has them: (K,), (K, D), and (K, D, D), (D, D) or (K, D).
void unpack(const Sums& from, double* weight, double* first, double* second) {
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
                            s[(r - i) * COLUMNS + c - j];
    }
}

template <typename X>
bool mixture_step(const X* x, const double* w, int64_t N, const Gaussians& g, double* weight,
                  double* first, double* second, double* log_likelihood) {
    Tile tile(g.K, g.D);
    Sums total(g);
    if (!tile.ok() || !total.ok()) return false;
    *log_likelihood = 0.0;
    for (int64_t start = 0; start < N; start += PACK) {
        tile.load(x + start * g.D, w + start, N - start < PACK ? N - start : PACK, g.D);
        log_joint(tile, g);
        *log_likelihood += weigh(tile, g.K, total.weight.data);
        for (int64_t k = 0; k < g.K; ++k) {
            double *one = total.first.data + k * total.width, *two = total.second_of(k);
            if (g.matrix) scatter_matrix(tile, g, k, one, two);
            else scatter_diagonal(tile, g, k, one, two);
        }
    }
    unpack(total, weight, first, second);
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
