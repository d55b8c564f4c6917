// Diagonal mixtures and points with gaps, for the pairs of a point and a component that matter only: as
// diag_screen.hpp, over the present features.
//
// With e_kd = log deviation + log(2 pi) / 2, a missing value adds e_kd to the constant of a log-density. So
// patterns don't matter for the time.
#pragma once

#include "marginals.hpp"

namespace {

struct GapScreen : Apart {
    const double* floor;
    Buffer<float> there;          // (D, PACK): 1 where a value is present, else 0
    Buffer<float> twice;          // (K, D): -2 e
    Buffer<double> volume, raw;   // (K, width): e; variances less the floor
    Buffer<double> entropy;       // of each pair: that of the missing values
    alignas(64) double weight[PACK], gaps[PACK];  // of each point; number of missing values

    GapScreen(const Gaussians& g, const double* floor)
        : Apart(g), floor(floor), there(size(g.D * PACK)), twice(size(g.K * g.D)), volume(size(g.K * width)),
          raw(size(g.K * width)), entropy(size(most_pairs + PACK + FLOATS)) {
        if (usable && ok()) fill_gaps();
    }

    bool ok() const {
        return Apart::ok() && there.ok() && twice.ok() && volume.ok() && raw.ok() && entropy.ok();
    }

    void fill_gaps() {
        for (int64_t k = 0; k < g.K; ++k) {
            double sum = 0.0, most = 0.0;
            for (int64_t d = 0; d < width; ++d) {
                const double w = d < g.D ? g.whitener_of(k)[d] : 1.0, variance = 1.0 / (w * w);
                const double e = d < g.D ? 0.5 * LOG_2PI - log(w) : 0.0;
                volume.data[k * width + d] = e;
                raw.data[k * width + d] = d < g.D && variance > floor[d] ? variance - floor[d] : 0.0;
                if (d < g.D) twice.data[k * g.D + d] = (float)(-2.0 * e);
                sum += e, most += fabs(e);
            }
            // Half of the sum in `screen_present` is at most `most` below that of the squares.
            constant.data[k] = (float)(g.constant.data[k] + sum);
            slack.data[k] += (float)(most * 0x1p-9 + fabs(sum) * 0x1p-20);
        }
    }

    // Take n points `rows`.
    template <typename X>
    void take_gaps(const X* x, const double* w, const int64_t* rows, int64_t n) {
        const int64_t D = g.D;
        for (int64_t p = 0; p < PACK; ++p) weight[p] = p < n ? w[rows[p]] : 0.0, gaps[p] = 0.0;
        for (int64_t p = 0; p < PACK; p += 4) {
            const X* from[4];
            for (int64_t j = 0; j < 4; ++j) from[j] = x + rows[p + j < n ? p + j : 0] * D;
            vquad missing = {};
            vfloat4 sum = {};
            for (int64_t d = 0; d < D; ++d) {
                const vquad four = {(double)from[0][d], (double)from[1][d], (double)from[2][d], (double)from[3][d]};
                const vlong4 here = four == four;
                const vquad one = (vquad)((vlong4)(vquad){1.0, 1.0, 1.0, 1.0} & here);
                const vquad value = (vquad)((vlong4)((four - centre.data[d]) * per_unit.data[d]) & here);
                const vfloat4 y = narrowed(value);
                *(vfloat4*)(tile.data + d * PACK + p) = y;
                *(vfloat4*)(there.data + d * PACK + p) = narrowed(one);
                sum += y * y, missing += 1.0 - one;
                for (int64_t j = 0; j < 4; ++j) copy.data[(p + j) * width + d] = four[j];
            }
            *(vfloat4*)(square.data + p) = sum;
            *(vquad*)(gaps + p) = missing;
        }
        this->rows = copy.data;
    }

    // As `screen`, over the present features: sum over d of present (t^2 + 2 e), less the constant's part.
    void screen_present(vfloat* best) const {
        constexpr int V = POINT_VECTORS, TOGETHER = 2;
        const float relative = 0x1p-10f;
        for (int64_t v0 = 0; v0 < PACK / FLOATS; v0 += V) {
            vfloat top[V];
            for (int v = 0; v < V; ++v) top[v] = broadcast(-INFINITY);
            for (int64_t k = 0; k < g.K; k += TOGETHER) {
                const int64_t which[TOGETHER] = {k, k + 1 < g.K ? k + 1 : k};
                vfloat sum[TOGETHER][V] = {};
                const vfloat *y = (const vfloat*)tile.data + v0, *one = (const vfloat*)there.data + v0;
                for (int64_t d = 0; d < g.D; ++d, y += PACK / FLOATS, one += PACK / FLOATS)
                    for (int j = 0; j < TOGETHER; ++j) {
                        const vfloat a = broadcast(factor.data[which[j] * g.D + d]);
                        const vfloat b = broadcast(-offset.data[which[j] * g.D + d]);
                        const vfloat c = broadcast(-twice.data[which[j] * g.D + d]);
                        for (int v = 0; v < V; ++v) {
                            const vfloat t = fma(y[v], a, b);
                            sum[j][v] = fma(one[v], fma(t, t, c), sum[j][v]);
                        }
                    }
                for (int j = 0; j < TOGETHER; ++j)
                    for (int v = 0; v < V; ++v) {
                        const int64_t i = which[j];
                        const vfloat half = 0.5f * sum[j][v], here = constant.data[i] - half;
                        const vfloat size = half > -half ? half : -half;
                        const vfloat off = fma(((const vfloat*)square.data)[v0 + v], broadcast(slope.data[i]),
                                               fma(size, broadcast(relative), broadcast(slack.data[i])));
                        const vfloat least = here - off;
                        top[v] = least > top[v] ? least : top[v];
                        ((vfloat*)high.data)[i * (PACK / FLOATS) + v0 + v] = here + off;
                    }
            }
            for (int v = 0; v < V; ++v) best[v0 + v] = top[v];
        }
    }

    // Log-densities of a component's pairs, and entropies of the missing values.
    void densities_of_gaps(int64_t k) {
        const vdouble *m = (const vdouble*)(mean.data + k * width), *w = (const vdouble*)(whitener.data + k * width);
        const vdouble* e = (const vdouble*)(volume.data + k * width);
        for (int64_t i = begin.data[k]; i < begin.data[k + 1]; i += DOUBLES) {
            const double* row[DOUBLES];
            vdouble sum[DOUBLES] = {}, volumes[DOUBLES] = {}, count;
            for (int j = 0; j < DOUBLES; ++j) row[j] = rows + point.data[i + j] * width, count[j] = gaps[point.data[i + j]];
            for (int64_t b = 0; b < width / DOUBLES; ++b)
                for (int j = 0; j < DOUBLES; ++j) {
                    const vdouble x = load(row[j] + b * DOUBLES);
                    const vlong here = x == x;
                    const vdouble whitened = (vdouble)((vlong)((x - m[b]) * w[b]) & here);
                    sum[j] = fma(whitened, whitened, sum[j]);
                    volumes[j] += (vdouble)((vlong)e[b] & ~here);
                }
            const vdouble square = sums(sum), missing = sums(volumes);
            const vdouble distance = square < FARTHEST ? square : broadcast(FARTHEST);
            store(value.data + i, g.constant.data[k] + missing - 0.5 * distance);
            store(entropy.data + i, missing + 0.5 * count);
        }
    }

    // Add a component's pairs to its moments; the mean of the component stands for a missing value.
    void moments_of_gaps(int64_t k, double* first, double* second) const {
        for (int64_t d = 0; d < rounded_up(g.D, DOUBLES); d += DOUBLES) {
            const vdouble m = *(const vdouble*)(mean.data + k * width + d), spread = *(const vdouble*)(raw.data + k * width + d);
            vdouble one[PAIR] = {}, two[PAIR] = {};
            for (int64_t i = begin.data[k]; i < begin.data[k + 1]; i += PAIR)
                for (int64_t j = 0; j < PAIR && i + j < begin.data[k + 1]; ++j) {
                    const vdouble x = load(rows + point.data[i + j] * width + d), share = broadcast(value.data[i + j]);
                    const vlong here = x == x;
                    const vdouble difference = (vdouble)((vlong)(x - m) & here), scaled = difference * share;
                    one[j] += scaled;
                    two[j] = fma(difference, scaled, fma(share, (vdouble)((vlong)spread & ~here), two[j]));
                }
            *(vdouble*)(first + d) += one[0] + one[1];
            *(vdouble*)(second + d) += two[0] + two[1];
        }
    }

    // Write the log-densities of the mixture without the background, and the entropies, of n points.
    void write_scores(const int64_t* rows, int64_t n, double* density, double* entropies) const {
        double top[PACK], total[PACK], sum[PACK];
        for (int64_t p = 0; p < n; ++p) top[p] = -INFINITY, total[p] = sum[p] = 0.0;
        for (int64_t i = 0; i < begin.data[g.K]; ++i) {
            double& best = top[point.data[i]];
            best = value.data[i] > best ? value.data[i] : best;
        }
        for (int64_t i = 0; i < begin.data[g.K]; ++i) {
            const double share = exp(value.data[i] - top[point.data[i]]);
            total[point.data[i]] += share, sum[point.data[i]] += share * entropy.data[i];
        }
        for (int64_t p = 0; p < n; ++p) density[rows[p]] = top[p] + log(total[p]), entropies[rows[p]] = sum[p] / total[p];
    }

    // Add n points `rows` to all sums, with a background of each or null. Add nothing and return false if
    // too many pairs may matter.
    template <typename X>
    bool step_with_gaps(const X* x, const double* w, const int64_t* rows, int64_t n, const double* background,
                        const WholeMoments& to, double* second) {
        vfloat best[PACK / FLOATS];
        take_gaps(x, w, rows, n);
        screen_present(best);
        if (!list(best, n)) return false;
        for (int64_t k = 0; k < g.K; ++k) densities_of_gaps(k);
        if (to.log_density) write_scores(rows, n, to.log_density, to.entropy);
        weigh(weight, n, background, to.totals, nullptr);
        for (int64_t k = 0; k < g.K; ++k) {
            for (int64_t i = begin.data[k]; i < begin.data[k + 1]; ++i) {
                to.weight[k] += value.data[i];
                to.totals[1] += value.data[i] * entropy.data[i];
            }
            moments_of_gaps(k, to.first + k * to.width, second + k * to.width);
        }
        return true;
    }
};

}  // namespace
