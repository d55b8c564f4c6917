// Gaussian mixtures, and many points with the same missing features: they are complete points of the
// marginal mixture of the present features. The formulas are in models/conditionals.py.
//
// The moments of the present features follow from the kernels for complete points. With B = Sigma_mo
// Sigma_oo^-1 and C = Sigma_mm - B Sigma_om, those of the whole points are
//
//     first_m = B first_o,    second_mo = B second_oo,    second_mm = B second_oo B^T + weight C.
//
// Matrices have components across lanes. Of m missing and o present features, a pattern needs about
// o^3 / 3 + 2 m o^2 multiplications per component.
#pragma once

#include "mixture.hpp"

namespace {

inline vdouble square_root(vdouble x) {
#if defined(__AVX512F__)
    return _mm512_sqrt_pd(x);
#elif defined(__AVX2__)
    return _mm256_sqrt_pd(x);
#else
    for (int l = 0; l < DOUBLES; ++l) x[l] = sqrt(x[l]);
    return x;
#endif
}

// Cells of numbers per component, DOUBLES components across lanes.
struct LaneCells {
    int64_t D;
    int64_t cell(int64_t k, int64_t d) const { return (k / DOUBLES * D + d) * DOUBLES + k % DOUBLES; }
    int64_t cell(int64_t k, int64_t i, int64_t j) const {
        return ((k / DOUBLES * D + i) * D + j) * DOUBLES + k % DOUBLES;
    }
};

// The components, as Python passes them: `root` has Cholesky factors or deviations.
struct Parameters {
    const double *log_weights, *means, *covariances, *root;
};

// Products of matrices whose cells are lanes. All are stored row by row.

// out (n, q) = a (n, r) b (q, r)^T; of lower triangles `b`, with r = q, the columns up to each row only.
inline void multiply_rows(const vdouble* a, const vdouble* b, int64_t n, int64_t q, int64_t r, bool lower, vdouble* out) {
    constexpr int64_t SOME = 4;
    for (int64_t i = 0; i < n; i += SOME)
        for (int64_t j = 0; j < q; ++j) {
            vdouble sum[SOME] = {};
            const vdouble* row[SOME];
            for (int64_t s = 0; s < SOME; ++s) row[s] = a + (i + s < n ? i + s : i) * r;
            for (int64_t c = 0; c < (lower ? j + 1 : r); ++c)
                for (int64_t s = 0; s < SOME; ++s) sum[s] = fma(row[s][c], b[j * r + c], sum[s]);
            for (int64_t s = 0; s < SOME && i + s < n; ++s) out[(i + s) * q + j] = sum[s];
        }
}

// out (n, r) = a (n, r) b (r, r), where b is a lower triangle.
inline void multiply_lower(const vdouble* a, const vdouble* b, int64_t n, int64_t r, vdouble* out) {
    constexpr int64_t SOME = 4;
    for (int64_t i = 0; i < n; i += SOME)
        for (int64_t j = 0; j < r; ++j) {
            vdouble sum[SOME] = {};
            const vdouble* row[SOME];
            for (int64_t s = 0; s < SOME; ++s) row[s] = a + (i + s < n ? i + s : i) * r;
            for (int64_t c = j; c < r; ++c)
                for (int64_t s = 0; s < SOME; ++s) sum[s] = fma(row[s][c], b[c * r + j], sum[s]);
            for (int64_t s = 0; s < SOME && i + s < n; ++s) out[(i + s) * r + j] = sum[s];
        }
}

// Replace the lower triangle of a symmetric matrix by its Cholesky factor, with reciprocals on the
// diagonal. Returns the logarithm of the determinant of the factor; NaN if the matrix isn't positive.
inline vdouble factorize_lanes(vdouble* F, int64_t n) {
    vdouble log_det = {};
    for (int64_t c = 0; c < n; ++c) {
        const vdouble pivot = F[c * n + c];
        if (mask(pivot > 1e-300) != (1u << DOUBLES) - 1) return broadcast((double)NAN);
        const vdouble reciprocal = 1.0 / square_root(pivot);
        log_det -= logarithm(reciprocal);
        F[c * n + c] = reciprocal;
        for (int64_t i = c + 1; i < n; ++i) F[i * n + c] *= reciprocal;
        for (int64_t i = c + 1; i < n; ++i) {
            const vdouble factor = F[i * n + c];
            for (int64_t j = c + 1; j <= i; ++j) F[i * n + j] -= factor * F[j * n + c];
        }
    }
    return log_det;
}

// The inverse W of such a factor.
inline void invert_lanes(const vdouble* F, int64_t n, vdouble* W) {
    for (int64_t i = 0; i < n; ++i) {
        const vdouble reciprocal = F[i * n + i];
        for (int64_t j = 0; j < i; ++j) W[i * n + j] = (vdouble){};
        W[i * n + i] = reciprocal;
        for (int64_t c = 0; c < i; ++c) {
            const vdouble factor = -F[i * n + c] * reciprocal;
            for (int64_t j = 0; j <= c; ++j) W[i * n + j] = fma(factor, W[c * n + j], W[i * n + j]);
        }
    }
}

// Where the expected moments of whole points are added.
struct WholeMoments {
    double *weight, *first;       // (K,), (K, width)
    int64_t width;
    vdouble* second;              // lower triangles (shapes, D, D), or (vectors, D), of lanes
    double* totals;               // sum_n w_n log p(x_n), and of entropies
    double *log_density, *entropy;  // of each point, or null
};

// The marginal mixture of one pattern at a time.
struct Marginal {
    const Gaussians& g;
    const Parameters& parameters;
    const double* floor;
    const int64_t vectors, shapes;
    const LaneCells lanes;
    int64_t o, m;
    Buffer<int64_t> present, missing;
    Buffer<double> means, root;        // (K, o)
    Buffer<double> inverse;            // (shapes, o, o) of lanes: W = L^-1 with Sigma_oo = L L^T
    Buffer<double> log_det;            // (shapes,) of lanes: of L
    Buffer<double> entropy;            // (K,): of the missing values
    Buffer<double> weight, first, second;  // moments of the present features
    Buffer<double> a, b, c, d;         // matrices of lanes

    Marginal(const Gaussians& g, const Parameters& parameters, const double* floor)
        : g(g), parameters(parameters), floor(floor), vectors((g.K + DOUBLES - 1) / DOUBLES),
          shapes(g.shared ? 1 : vectors), lanes{g.D}, o(0), m(0), present(g.D), missing(g.D), means(g.K * g.D),
          root(g.matrix ? 0 : g.K * g.D), inverse(shapes * square()), log_det(shapes * DOUBLES), entropy(g.K),
          weight(g.K), first(g.K * g.D), second((g.shared ? 1 : g.K) * g.D * (g.matrix ? g.D : 1)), a(square()),
          b(square()), c(square()), d(square()) {}

    int64_t square() const { return g.matrix ? g.D * g.D * DOUBLES : 0; }

    bool ok() const {
        return present.ok() && missing.ok() && means.ok() && root.ok() && inverse.ok() && log_det.ok() && entropy.ok() &&
               weight.ok() && first.ok() && second.ok() && a.ok() && b.ok() && c.ok() && d.ok();
    }

    vdouble* inverse_of(int64_t v) const { return (vdouble*)inverse.data + (g.shared ? 0 : v) * g.D * g.D; }

    void select(const uint8_t* absent) {
        o = m = 0;
        for (int64_t d = 0; d < g.D; ++d) {
            if (absent[d]) missing.data[m++] = d;
            else present.data[o++] = d;
        }
        for (int64_t k = 0; k < g.K; ++k)
            for (int64_t j = 0; j < o; ++j) {
                means.data[k * o + j] = g.means[k * g.D + present.data[j]];
                if (!g.matrix) root.data[k * o + j] = parameters.root[k * g.D + present.data[j]];
            }
    }

    // Copy rows and columns of the covariances of DOUBLES components.
    void gather(int64_t v, const int64_t* rows, int64_t n, const int64_t* columns, int64_t q, bool lower, double* to) const {
        for (int64_t l = 0; l < DOUBLES; ++l) {
            const int64_t k = g.shared ? 0 : v * DOUBLES + l < g.K ? v * DOUBLES + l : 0;
            const double* from = parameters.covariances + k * g.D * g.D;
            for (int64_t i = 0; i < n; ++i)
                for (int64_t j = 0; j < (lower ? i + 1 : q); ++j)
                    to[(i * q + j) * DOUBLES + l] = from[rows[i] * g.D + columns[j]];
        }
    }

    // Set whiteners and constants of the mixture of the present features. False if a covariance isn't
    // positive definite.
    bool whiten(Gaussians& marginal) {
        for (int64_t v = 0; v < shapes; ++v) {
            gather(v, present.data, o, present.data, o, true, a.data);
            const vdouble found = factorize_lanes((vdouble*)a.data, o);
            if (found[0] != found[0]) return false;
            ((vdouble*)log_det.data)[v] = found;
            invert_lanes((const vdouble*)a.data, o, inverse_of(v));
        }
        for (int64_t k = 0; k < g.K; ++k) {
            const int64_t shape = g.shared ? 0 : k;
            const double* W = (const double*)inverse_of(shape / DOUBLES) + shape % DOUBLES;
            marginal.constant.data[k] =
                parameters.log_weights[k] - log_det.data[shape] - 0.5 * (double)o * LOG_2PI;
            if (k && g.shared) continue;
            double* to = marginal.whitener.data + k * marginal.size;
            for (int64_t i = 0; i < o; i += ROWS)
                for (int64_t j = 0; j < (i + ROWS < o ? i + ROWS : o); ++j)
                    for (int64_t r = i; r < i + ROWS; ++r) *to++ = r < o && j <= r ? W[(r * o + j) * DOUBLES] : 0.0;
        }
        return true;
    }

    // log det Sigma_mm.o of each component follows from log det Sigma = log det Sigma_oo + log det C.
    void set_entropies(const Gaussians& marginal) {
        for (int64_t k = 0; k < g.K; ++k) {
            const double whole = parameters.log_weights[k] - g.constant.data[k] - 0.5 * (double)g.D * LOG_2PI;
            const double own = parameters.log_weights[k] - marginal.constant.data[k] - 0.5 * (double)o * LOG_2PI;
            entropy.data[k] = 0.5 * (LOG_2PI + 1.0) * (double)m + whole - own;
        }
    }

    // Add the points `rows` of one pattern, with a background or -infinity. Returns 0, 1 if there isn't
    // enough memory, or 2 if a covariance isn't positive definite.
    template <typename X>
    int add(const X* x, const double* w, const int64_t* rows, int64_t n, const uint8_t* absent, double background,
            const WholeMoments& to) {
        constexpr int64_t TOGETHER = 4 * PACK;
        select(absent);
        Gaussians marginal(g.K, o, g.matrix, g.shared, g.matrix ? nullptr : parameters.log_weights, means.data, root.data);
        if (!marginal.ok()) return 1;
        if (g.matrix && !whiten(marginal)) return 2;
        marginal.background = background;
        set_entropies(marginal);
        Workspace space(marginal);
        Buffer<X> points(TOGETHER * o);
        Buffer<double> own(3 * TOGETHER);
        if (!space.ok() || !points.ok() || !own.ok()) return 1;
        double *mass = own.data, *density = to.log_density ? mass + TOGETHER : nullptr, *entropies = mass + 2 * TOGETHER;
        const Entropies scores = {entropy.data, entropies};
        for (int64_t start = 0; start < n; start += TOGETHER) {
            const int64_t here = n - start < TOGETHER ? n - start : TOGETHER;
            for (int64_t p = 0; p < here; ++p) {
                const X* from = x + rows[start + p] * g.D;
                mass[p] = w[rows[start + p]];
                for (int64_t j = 0; j < o; ++j) points.data[p * o + j] = from[present.data[j]];
            }
            to.totals[0] += space.add_chunk(points.data, mass, here, density, density ? &scores : nullptr);
            for (int64_t p = 0; density && p < here; ++p) {
                to.log_density[rows[start + p]] = density[p];
                to.entropy[rows[start + p]] = entropies[p];
            }
        }
        unpack(space.total, space.active, weight.data, first.data, second.data);
        for (int64_t k = 0; k < g.K; ++k) {
            to.weight[k] += weight.data[k];
            to.totals[1] += weight.data[k] * entropy.data[k];
        }
        if (g.matrix) expand_matrices(to);
        else expand_variances(to);
        return 0;
    }

    void expand_variances(const WholeMoments& to) const {
        for (int64_t k = 0; k < g.K; ++k) {
            for (int64_t j = 0; j < o; ++j) {
                to.first[k * to.width + present.data[j]] += first.data[k * o + j];
                ((double*)to.second)[lanes.cell(k, present.data[j])] += second.data[k * o + j];
            }
            for (int64_t j = 0; j < m; ++j) {
                const int64_t d = missing.data[j];
                const double deviation = parameters.root[k * g.D + d], raw = deviation * deviation - floor[d];
                ((double*)to.second)[lanes.cell(k, d)] += raw > 0.0 ? weight.data[k] * raw : 0.0;
            }
        }
    }

    void expand_matrices(const WholeMoments& to) const {
        for (int64_t v = 0; v < vectors; ++v) {
            vdouble mass = {};
            const int64_t here = g.K - v * DOUBLES < DOUBLES ? g.K - v * DOUBLES : DOUBLES;
            for (int64_t l = 0; l < here; ++l) mass[l] = weight.data[v * DOUBLES + l];
            if (!g.shared && !mask(mass > 0.0)) continue;
            if (!g.shared || !v) regress(v);
            expand_first(v, here, to);
            if (!g.shared) expand_second(v, mass, to);
        }
        double total = 0.0;
        for (int64_t k = 0; k < g.K; ++k) total += weight.data[k];
        if (g.shared) expand_second(0, broadcast(total), to);
    }

    // b = B (m, o), and c = C (m, m), the lower triangle.
    void regress(int64_t v) const {
        const vdouble* W = inverse_of(v);
        gather(v, missing.data, m, present.data, o, false, a.data);
        multiply_rows((const vdouble*)a.data, W, m, o, o, true, (vdouble*)d.data);
        multiply_lower((const vdouble*)d.data, W, m, o, (vdouble*)b.data);
        gather(v, missing.data, m, missing.data, m, true, c.data);
        const vdouble* T = (const vdouble*)d.data;
        for (int64_t i = 0; i < m; ++i)
            for (int64_t j = 0; j <= i; ++j) {
                vdouble sum = {};
                for (int64_t r = 0; r < o; ++r) sum = fma(T[i * o + r], T[j * o + r], sum);
                ((vdouble*)c.data)[i * m + j] -= sum;
            }
    }

    void expand_first(int64_t v, int64_t here, const WholeMoments& to) const {
        vdouble* own = (vdouble*)a.data;
        for (int64_t j = 0; j < o; ++j) {
            own[j] = (vdouble){};
            for (int64_t l = 0; l < here; ++l) {
                own[j][l] = first.data[(v * DOUBLES + l) * o + j];
                to.first[(v * DOUBLES + l) * to.width + present.data[j]] += own[j][l];
            }
        }
        for (int64_t i = 0; i < m; ++i) {
            vdouble sum = {};
            for (int64_t j = 0; j < o; ++j) sum = fma(((const vdouble*)b.data)[i * o + j], own[j], sum);
            for (int64_t l = 0; l < here; ++l) to.first[(v * DOUBLES + l) * to.width + missing.data[i]] += sum[l];
        }
    }

    void expand_second(int64_t v, vdouble mass, const WholeMoments& to) const {
        vdouble *S = (vdouble*)a.data, *R = (vdouble*)d.data, *out = to.second + v * g.D * g.D;
        const vdouble *B = (const vdouble*)b.data, *C = (const vdouble*)c.data;
        for (int64_t l = 0; l < DOUBLES; ++l) {
            const int64_t k = g.shared ? 0 : v * DOUBLES + l;
            for (int64_t i = 0; i < o * o; ++i) ((double*)S)[i * DOUBLES + l] = k < g.K ? second.data[k * o * o + i] : 0.0;
        }
        multiply_rows(B, S, m, o, o, false, R);  // second_oo is symmetric
        for (int64_t i = 0; i < o; ++i)
            for (int64_t j = 0; j <= i; ++j) out[present.data[i] * g.D + present.data[j]] += S[i * o + j];
        for (int64_t i = 0; i < m; ++i) {
            const int64_t row = missing.data[i];
            for (int64_t j = 0; j < o; ++j) {
                const int64_t column = present.data[j];
                out[row > column ? row * g.D + column : column * g.D + row] += R[i * o + j];
            }
            for (int64_t j = 0; j <= i; ++j) {
                vdouble sum = {}, left = C[i * m + j];
                for (int64_t r = 0; r < o; ++r) sum = fma(R[i * o + r], B[j * o + r], sum);
                if (i == j) left -= floor[row];
                out[row * g.D + missing.data[j]] += sum + mass * left;
            }
        }
    }
};

}  // namespace
