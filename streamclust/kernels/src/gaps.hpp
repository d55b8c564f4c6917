// Gaussian mixtures and points with missing values: the expected moments of whole points, and marginal
// log-densities. The formulas are in models/conditionals.py.
//
// Points come in groups that lack the same features. A group has the marginal mixture of the features
// that are present; its points are processed in tiles like complete points, but only as many vectors
// as there are points. The sums are taken in the order of the groups, by one thread.
#pragma once

#include "mixture.hpp"

namespace {

// Covariances of all features: (K, D, D), (D, D) if shared, or variances (K, D).
struct Components {
    int64_t K, D;
    bool matrix, shared;
    const double *log_weights, *means, *covariances;

    int64_t shapes() const { return shared ? 1 : K; }
};

// The rows of points by group: those of group p are order[starts[p]] to order[starts[p + 1] - 1].
// `absent` (P, D) is 1 where a group lacks a feature.
struct Groups {
    int64_t P;
    const int64_t *order, *starts;
    const uint8_t* absent;
};

// Lower Cholesky factor of a matrix, in its place; `space` (2 n). Rounding alone can make a pivot
// negative.
inline void factor(double* A, int64_t n, double* space) {
    double *column = space, *diagonal = space + n;
    for (int64_t i = 0; i < n; ++i) diagonal[i] = 0x1p-52 * A[i * n + i];
    for (int64_t c = 0; c < n; ++c) {
        const double pivot = A[c * n + c];
        const double root = sqrt(pivot > diagonal[c] ? pivot : diagonal[c]);
        A[c * n + c] = root;
        for (int64_t i = c + 1; i < n; ++i) column[i] = A[i * n + c] /= root;
        for (int64_t i = c + 1; i < n; ++i)
            for (int64_t j = c + 1; j <= i; ++j) A[i * n + j] -= column[i] * column[j];
    }
}

// The features that a group has, and the marginal means and factors.
struct Marginal {
    const Components& all;
    int64_t o, m;                       // how many features are present, and missing
    Buffer<int64_t> present, missing;
    Buffer<double> means, roots, space; // (K, o); (shapes, o, o) or (K, o); (2 D,)

    explicit Marginal(const Components& all)
        : all(all), o(0), m(0), present(all.D), missing(all.D), means(all.K * all.D),
          roots(all.shapes() * all.D * (all.matrix ? all.D : 1)), space(2 * all.D) {}

    bool ok() const {
        return present.ok() && missing.ok() && means.ok() && roots.ok() && space.ok();
    }

    double* root(int64_t k) const { return roots.data + (all.shared ? 0 : k) * o * (all.matrix ? o : 1); }

    void select(const uint8_t* absent) {
        o = m = 0;
        for (int64_t d = 0; d < all.D; ++d) {
            if (absent[d]) missing.data[m++] = d;
            else present.data[o++] = d;
        }
        for (int64_t k = 0; k < all.K; ++k)
            for (int64_t i = 0; i < o; ++i)
                means.data[k * o + i] = all.means[k * all.D + present.data[i]];
        for (int64_t k = 0; k < all.shapes(); ++k) {
            double* to = root(k);
            for (int64_t i = 0; i < o; ++i) {
                const double* from = covariance(k) + present.data[i] * (all.matrix ? all.D : 1);
                if (!all.matrix) to[i] = sqrt(*from);
                for (int64_t j = 0; all.matrix && j < o; ++j) to[i * o + j] = from[present.data[j]];
            }
            if (all.matrix) factor(to, o, space.data);
        }
    }

    const double* covariance(int64_t k) const {
        return all.covariances + (all.shared ? 0 : k) * all.D * (all.matrix ? all.D : 1);
    }

    double log_det(int64_t k) const {
        double sum = 0.0;
        for (int64_t i = 0; i < o; ++i) sum += log(root(k)[all.matrix ? i * o + i : i]);
        return 2.0 * sum;
    }
};

// Points of a group in a tile; returns the number of vectors.
template <typename X>
int64_t load_group(const Tile& tile, const X* x, const double* weight, const int64_t* rows, int64_t n,
                   const Marginal& part) {
    const int64_t lanes = rounded_up(n, DOUBLES * POINT_VECTORS);
    for (int64_t p = 0; p < lanes; ++p) {
        const int64_t row = rows[p < n ? p : 0];  // the others are copies, with weight 0
        const X* from = x + row * part.all.D;
        tile.w.data[p] = p < n && weight ? weight[row] : 0.0;
        for (int64_t i = 0; i < part.o; ++i)
            tile.points.data[i * PACK + p] = (double)from[part.present.data[i]];
    }
    return lanes / DOUBLES;
}

void joint_of_group(const Tile& tile, const Gaussians& g, int64_t vectors) {
    for (int64_t start = 0; start < vectors; start += POINT_VECTORS)
        for (int64_t k = 0; k < g.K; ++k) {
            vdouble square[POINT_VECTORS] = {};
            if (g.matrix) whiten_matrix(tile, g, k, start, square);
            else whiten_diagonal(tile, g, k, start, square);
            for (int v = 0; v < POINT_VECTORS; ++v) {
                vdouble distance = square[v] < FARTHEST ? square[v] : broadcast(FARTHEST);
                tile.row(tile.joint, k)[start + v] = g.constant.data[k] - 0.5 * distance;
            }
        }
}

// As `weigh`, for some vectors; and the weight of each component in the tile, (K,).
double weigh_group(const Tile& tile, int64_t K, int64_t vectors, double* weight) {
    vdouble score[DOUBLES] = {};
    for (int64_t v = 0; v < vectors; ++v) {
        vdouble most = tile.row(tile.joint, 0)[v], sum = {};
        for (int64_t k = 1; k < K; ++k) {
            vdouble here = tile.row(tile.joint, k)[v];
            most = here > most ? here : most;
        }
        for (int64_t k = 0; k < K; ++k) {
            vdouble& here = tile.row(tile.joint, k)[v];
            const vlong matters = most - here < NEGLIGIBLE;
            here = mask(matters) ? (vdouble)((vlong)exponential(here - most) & matters) : (vdouble){};
            sum += here;
        }
        const vdouble w = ((vdouble*)tile.w.data)[v], share = w / sum;
        for (int64_t k = 0; k < K; ++k) tile.row(tile.joint, k)[v] *= share;
        score[0] += w * (most + logarithm(sum));
    }
    for (int64_t k = 0; k < K; ++k) {
        vdouble part[DOUBLES] = {};
        for (int64_t v = 0; v < vectors; ++v) part[0] += tile.row(tile.joint, k)[v];
        weight[k] = sums(part)[0];
    }
    return sums(score)[0];
}

// Add the moments of the present features of one component: first (o,), and second (o, width), of
// which the lower triangle counts, or the diagonal (o,).
void scatter_group(const Tile& tile, const Gaussians& g, int64_t k, int64_t vectors, int64_t width,
                   double* first, double* second) {
    const vdouble* share = tile.row(tile.joint, k);
    for (int64_t i = 0; i < g.D; ++i) {
        const vdouble* x = tile.row(tile.points, i);
        vdouble *difference = tile.row(tile.difference, i), *scaled = tile.row(tile.scaled, i);
        vdouble part[DOUBLES] = {};
        for (int64_t v = 0; v < vectors; ++v) {
            difference[v] = x[v] - g.means[k * g.D + i];
            scaled[v] = share[v] * difference[v];
            part[0] += scaled[v];
            if (!g.matrix) part[1] = fma(scaled[v], difference[v], part[1]);
        }
        const vdouble sum = sums(part);
        first[i] += sum[0];
        if (!g.matrix) second[i] += sum[1];
    }
    for (int64_t i = 0; g.matrix && i < g.D; ++i)
        for (int64_t j = 0; j <= i; j += DOUBLES) {
            const vdouble* a = tile.row(tile.scaled, i);
            vdouble part[DOUBLES] = {};
            for (int64_t c = 0; c < DOUBLES && j + c <= i; ++c) {
                const vdouble* b = tile.row(tile.difference, j + c);
                for (int64_t v = 0; v < vectors; ++v) part[c] = fma(a[v], b[v], part[c]);
            }
            *(vdouble*)(second + i * width + j) += sums(part);
        }
}

// The expected moments of whole points, from those of the features that are present.
struct Expected {
    const Components& all;
    const double* floor;                         // (D,): the part of the variances that the m-step adds
    double *weight, *first, *second;             // OUT: (K,), (K, D), and (shapes, D, D) or (K, D)
    Buffer<double> slopes, whitened, products;   // (o, m) each: B^T, H^T, and S B^T

    Expected(const Components& all, const double* floor, double* weight, double* first, double* second)
        : all(all), floor(floor), weight(weight), first(first), second(second),
          slopes(all.matrix ? all.D * all.D : 1), whitened(all.matrix ? all.D * all.D : 1),
          products(all.matrix ? all.D * all.D : 1) {}

    bool ok() const { return slopes.ok() && whitened.ok() && products.ok(); }

    void add_diagonal(const Marginal& part, int64_t k, double mass, const double* one, const double* two) {
        for (int64_t i = 0; i < part.o; ++i) {
            first[k * all.D + part.present.data[i]] += one[i];
            second[k * all.D + part.present.data[i]] += two[i];
        }
        for (int64_t a = 0; a < part.m; ++a) {
            const int64_t d = part.missing.data[a];
            const double raw = part.covariance(k)[d] - floor[d];
            second[k * all.D + d] += mass * (raw > 0.0 ? raw : 0.0);
        }
    }

    // H^T = L^-1 Sigma_om, B^T = L^-T H^T.
    void regress(const Marginal& part, int64_t k) {
        const int64_t o = part.o, m = part.m;
        const double *L = part.root(k), *S = part.covariance(k);
        for (int64_t i = 0; i < o; ++i) {
            double* h = whitened.data + i * m;
            for (int64_t a = 0; a < m; ++a) h[a] = S[part.present.data[i] * all.D + part.missing.data[a]];
            for (int64_t j = 0; j < i; ++j)
                for (int64_t a = 0; a < m; ++a) h[a] -= L[i * o + j] * whitened.data[j * m + a];
            for (int64_t a = 0; a < m; ++a) h[a] /= L[i * o + i];
        }
        for (int64_t i = o - 1; i >= 0; --i) {
            double* b = slopes.data + i * m;
            for (int64_t a = 0; a < m; ++a) b[a] = whitened.data[i * m + a];
            for (int64_t j = i + 1; j < o; ++j)
                for (int64_t a = 0; a < m; ++a) b[a] -= L[j * o + i] * slopes.data[j * m + a];
            for (int64_t a = 0; a < m; ++a) b[a] /= L[i * o + i];
        }
    }

    void add_first(const Marginal& part, int64_t k, const double* one) {
        double* to = first + k * all.D;
        for (int64_t i = 0; i < part.o; ++i) {
            to[part.present.data[i]] += one[i];
            for (int64_t a = 0; a < part.m; ++a)
                to[part.missing.data[a]] += slopes.data[i * part.m + a] * one[i];
        }
    }

    void add_second(const Marginal& part, int64_t k, double mass, const double* two, int64_t width) {
        const int64_t o = part.o, m = part.m, D = all.D;
        const double* S = part.covariance(k);
        double* to = second + (all.shared ? 0 : k) * D * D;
        for (int64_t i = 0; i < o; ++i) {
            double *t = products.data + i * m, *row = to + part.present.data[i] * D;
            for (int64_t a = 0; a < m; ++a) t[a] = 0.0;
            for (int64_t j = 0; j < o; ++j) {
                const double s = j <= i ? two[i * width + j] : two[j * width + i];
                row[part.present.data[j]] += s;
                for (int64_t a = 0; a < m; ++a) t[a] += s * slopes.data[j * m + a];
            }
            for (int64_t a = 0; a < m; ++a) {
                row[part.missing.data[a]] += t[a];
                to[part.missing.data[a] * D + part.present.data[i]] += t[a];
            }
        }
        for (int64_t a = 0; a < m; ++a) {
            double* row = to + part.missing.data[a] * D;
            for (int64_t b = 0; b <= a; ++b) {
                double sum = mass * S[part.missing.data[a] * D + part.missing.data[b]];
                for (int64_t i = 0; i < o; ++i)
                    sum += slopes.data[i * m + a] * products.data[i * m + b] -
                           mass * whitened.data[i * m + a] * whitened.data[i * m + b];
                if (a == b) sum -= mass * floor[part.missing.data[a]];
                row[part.missing.data[b]] += sum;
                if (a != b) to[part.missing.data[b] * D + part.missing.data[a]] += sum;
            }
        }
    }
};

template <typename X>
bool expected_step(const X* x, const double* w, const Groups& groups, const Components& all,
                   Expected& expected, double* log_likelihood) {
    const int64_t K = all.K, D = all.D, width = rounded_up(D, DOUBLES);
    const int64_t cells = all.matrix ? D * width : width;
    Marginal part(all);
    Tile tile(K, D);
    Buffer<double> share(K), mass(K), first(K * D), second((all.shared ? 1 : K) * cells);
    if (!part.ok() || !tile.ok() || !expected.ok()) return false;
    if (!share.ok() || !mass.ok() || !first.ok() || !second.ok()) return false;
    for (int64_t p = 0; p < groups.P; ++p) {
        part.select(groups.absent + p * D);
        const Gaussians g(K, part.o, all.matrix, all.shared, all.log_weights, part.means.data, part.roots.data);
        if (!g.ok()) return false;
        for (int64_t k = 0; k < K; ++k) mass.data[k] = 0.0;
        const int64_t begin = groups.starts[p], end = groups.starts[p + 1];
        double total = 0.0;
        if (all.shared)
            for (int64_t c = 0; c < cells; ++c) second.data[c] = 0.0;
        for (int64_t start = begin; start < end; start += PACK) {
            const int64_t n = end - start < PACK ? end - start : PACK;
            const int64_t vectors = load_group(tile, x, w, groups.order + start, n, part);
            joint_of_group(tile, g, vectors);
            *log_likelihood += weigh_group(tile, K, vectors, share.data);
            for (int64_t k = 0; k < K; ++k) {
                if (!(share.data[k] > 0.0)) continue;
                double* one = first.data + k * D;
                double* two = second.data + (all.shared ? 0 : k) * cells;
                if (!(mass.data[k] > 0.0)) {
                    for (int64_t i = 0; i < D; ++i) one[i] = 0.0;
                    for (int64_t c = 0; !all.shared && c < cells; ++c) two[c] = 0.0;
                }
                scatter_group(tile, g, k, vectors, width, one, two);
                mass.data[k] += share.data[k], total += share.data[k];
            }
        }
        bool known = false;
        for (int64_t k = 0; k < K; ++k) {
            if (!(mass.data[k] > 0.0)) continue;
            const double *one = first.data + k * D, *two = second.data + k * cells;
            expected.weight[k] += mass.data[k];
            if (!all.matrix) {
                expected.add_diagonal(part, k, mass.data[k], one, two);
                continue;
            }
            if (!known || !all.shared) expected.regress(part, k);
            known = true;
            expected.add_first(part, k, one);
            if (!all.shared) expected.add_second(part, k, mass.data[k], two, width);
        }
        if (all.shared && known) expected.add_second(part, 0, total, second.data, width);
    }
    return true;
}

// Writes row n of `out` (N, K) for each point of the groups.
template <typename X>
bool marginal_log_gaussians(const X* x, const Groups& groups, const Components& all, double* out) {
    Marginal part(all);
    Tile tile(all.K, all.D);
    if (!part.ok() || !tile.ok()) return false;
    for (int64_t p = 0; p < groups.P; ++p) {
        part.select(groups.absent + p * all.D);
        const Gaussians g(all.K, part.o, all.matrix, all.shared, all.log_weights, part.means.data,
                          part.roots.data);
        if (!g.ok()) return false;
        for (int64_t start = groups.starts[p], end = groups.starts[p + 1]; start < end; start += PACK) {
            const int64_t n = end - start < PACK ? end - start : PACK;
            joint_of_group(tile, g, load_group(tile, x, (const double*)nullptr, groups.order + start, n, part));
            for (int64_t q = 0; q < n; ++q)
                for (int64_t k = 0; k < all.K; ++k)
                    out[groups.order[start + q] * all.K + k] = tile.joint.data[k * PACK + q];
        }
    }
    return true;
}

// log det of the marginal covariances, (P, shapes).
inline bool marginal_log_dets(const Groups& groups, const Components& all, double* out) {
    Marginal part(all);
    if (!part.ok()) return false;
    for (int64_t p = 0; p < groups.P; ++p) {
        part.select(groups.absent + p * all.D);
        for (int64_t k = 0; k < all.shapes(); ++k) *out++ = part.log_det(k);
    }
    return true;
}

}  // namespace
