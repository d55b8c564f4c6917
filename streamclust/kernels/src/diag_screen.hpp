// The e-step of a diagonal mixture whose components lie far apart, for the pairs that matter only.
//
// For most pairs of a point and a component, float32 with a bound of its rounding error shows that
// the responsibility is below e^-40. The other pairs get a density, a responsibility and moments in
// float64, with features across lanes. If too many pairs are left, the whole tile is computed.
//
// With features y = (x - centre) / unit, unit the least standard deviation of any component, and a = unit /
// deviation <= 1, the whitened difference t = y a - b in float32 is off by e with |e_d| <= u |t_d| +
// 4 u a_d (|y_d| + |b_d / a_d|), u = 2^-24. For Q = |t|^2 and any h > 0
//
//     (|t| + |e|)^2 <= (1 + h) |t|^2 + (1 + 1/h) |e|^2,
//
// and a similar lower bound; h = 2^-12, several times as much for the rounding of sums.
#pragma once

#include "moments.hpp"

namespace {

constexpr double NEGLIGIBLE = 40.0;     // gamma < e^-40 = 4e-18, far below the rounding error of 1
constexpr int64_t FEWEST_FEATURES = 9;  // with fewer, too many lanes are empty
constexpr int PAIR = 2;                 // blocks of features, or points, that are added together

struct Apart {
    const Gaussians& g;
    const bool usable;
    int64_t width, most_pairs;
    Buffer<double> centre, per_unit;         // (D,)
    Buffer<double> mean, whitener;           // (K, width)
    Buffer<float> factor, offset;            // a and b: (K, D)
    Buffer<float> constant, slope, slack;    // (K,): the error is at most slope |y|^2 + slack
    Buffer<double> copy;                     // (PACK, width): a copy of the points, if needed
    const double* rows;                      // the points
    Buffer<float> tile, square;              // y: (D, PACK); |y|^2: (PACK,)
    Buffer<float> high;                      // (K, PACK): upper bounds of log-densities
    Buffer<int64_t> begin;                   // (K + 1,): start of each component's pairs
    Buffer<int32_t> point;                   // of each pair
    Buffer<double> value;                    // log-density of each pair, then its responsibility

    Apart(const Gaussians& g)
        : g(g), usable(!g.matrix && g.D >= FEWEST_FEATURES && g.K > 1),
          width(rounded_up(g.D, PAIR * DOUBLES)), most_pairs(g.K * PACK * 3 / 5), centre(size(g.D)),
          per_unit(size(g.D)), mean(size(g.K * width)), whitener(size(g.K * width)),
          factor(size(g.K * g.D)), offset(size(g.K * g.D)), constant(size(g.K)), slope(size(g.K)),
          slack(size(g.K)), copy(size(PACK * width)), rows(nullptr), tile(size(g.D * PACK)), square(PACK),
          high(size(g.K * PACK)), begin(size(g.K + 1)), point(size(most_pairs + PACK + FLOATS)),
          value(size(most_pairs + PACK + FLOATS)) {
        if (usable && ok()) fill();
    }

    int64_t size(int64_t n) const { return usable ? n : 0; }

    bool ok() const {
        return centre.ok() && per_unit.ok() && mean.ok() && whitener.ok() && factor.ok() &&
               offset.ok() && constant.ok() && slope.ok() && slack.ok() && copy.ok() && tile.ok() &&
               square.ok() && high.ok() && begin.ok() && point.ok() && value.ok();
    }

    void fill() {
        const int64_t K = g.K, D = g.D;
        for (int64_t d = 0; d < D; ++d) {
            double sum = 0.0, largest = 0.0;
            for (int64_t k = 0; k < K; ++k) {
                sum += g.means[k * D + d];
                const double w = g.whitener_of(k)[d];
                largest = w > largest ? w : largest;
            }
            centre.data[d] = sum / (double)K;
            per_unit.data[d] = largest;
        }
        for (int64_t k = 0; k < K; ++k) fill_component(k);
        for (int64_t i = 0; i < PACK * width; ++i) copy.data[i] = 0.0;
    }

    void fill_component(int64_t k) {
        const int64_t D = g.D;
        const double *m = g.means + k * D, *w = g.whitener_of(k);
        double steepest = 0.0, norm = 0.0;
        for (int64_t d = 0; d < width; ++d) {
            mean.data[k * width + d] = d < D ? m[d] : 0.0;
            whitener.data[k * width + d] = d < D ? w[d] : 0.0;
            if (d >= D) continue;
            const double place = (m[d] - centre.data[d]) * per_unit.data[d], a = w[d] / per_unit.data[d];
            factor.data[k * D + d] = (float)a;
            offset.data[k * D + d] = (float)(place * a);
            steepest = a > steepest ? a : steepest;
            norm += place * place;
        }
        const double off = steepest * steepest * (0x1p13 * 16.0 * 0x1p-48), c = g.constant.data[k];
        constant.data[k] = (float)c;
        slope.data[k] = (float)off;
        slack.data[k] = (float)(off * norm + fabs(c) * 0x1p-20 + 1e-3);
    }

    // Points whose rows fill whole vectors are read in place; others are copied.
    const double* rows_of(const double* x, int64_t n) { return g.D == width ? x : copied(x, n); }
    const double* rows_of(const float* x, int64_t n) { return copied(x, n); }

    template <typename X>
    const double* copied(const X* x, int64_t n) {
        for (int64_t p = 0; p < n; ++p)
            for (int64_t d = 0; d < g.D; ++d) copy.data[p * width + d] = (double)x[p * g.D + d];
        return copy.data;
    }

    template <typename X>
    void take(const X* x, int64_t n) {
        const int64_t D = g.D;
        float* const tile = this->tile.data;
        const double *centre = this->centre.data, *per_unit = this->per_unit.data;
        rows = rows_of(x, n);
        for (int64_t p = 0; p < PACK; p += 4) {
            const X* from[4];
            for (int64_t j = 0; j < 4; ++j) from[j] = x + (p + j < n ? p + j : 0) * D;
            vfloat4 sum = {};
            for (int64_t d = 0; d < D; ++d) {
                const vquad four = {(double)from[0][d], (double)from[1][d], (double)from[2][d],
                                    (double)from[3][d]};
                const vfloat4 y = narrowed((four - centre[d]) * per_unit[d]);
                *(vfloat4*)(tile + d * PACK + p) = y;
                sum += y * y;
            }
            *(vfloat4*)(square.data + p) = sum;
        }
    }

    // Upper bounds of log-densities in float32, and each point's largest lower bound.
    void screen(vfloat* best) const {
        constexpr int V = POINT_VECTORS, TOGETHER = 2;
        const float relative = 0x1p-10f;
        for (int64_t v0 = 0; v0 < PACK / FLOATS; v0 += V) {
            vfloat top[V];
            for (int v = 0; v < V; ++v) top[v] = broadcast(-INFINITY);
            for (int64_t k = 0; k < g.K; k += TOGETHER) {
                const int64_t other = k + 1 < g.K ? k + 1 : k;
                const int64_t which[TOGETHER] = {k, other};
                vfloat sum[TOGETHER][V] = {};
                const vfloat* y = (const vfloat*)tile.data + v0;
                for (int64_t d = 0; d < g.D; ++d, y += PACK / FLOATS)
                    for (int j = 0; j < TOGETHER; ++j) {
                        const vfloat a = broadcast(factor.data[which[j] * g.D + d]);
                        const vfloat b = broadcast(-offset.data[which[j] * g.D + d]);
                        for (int v = 0; v < V; ++v) {
                            const vfloat t = fma(y[v], a, b);
                            sum[j][v] = fma(t, t, sum[j][v]);
                        }
                    }
                for (int j = 0; j < TOGETHER; ++j)
                    for (int v = 0; v < V; ++v) {
                        const int64_t i = which[j];
                        const vfloat half = 0.5f * sum[j][v], here = constant.data[i] - half;
                        const vfloat off = fma(((const vfloat*)square.data)[v0 + v], broadcast(slope.data[i]),
                                               fma(half, broadcast(relative), broadcast(slack.data[i])));
                        const vfloat least = here - off;
                        top[v] = least > top[v] ? least : top[v];
                        ((vfloat*)high.data)[i * (PACK / FLOATS) + v0 + v] = here + off;
                    }
            }
            for (int v = 0; v < V; ++v) best[v0 + v] = top[v];
        }
    }

    // List the pairs that may matter, component by component; false if they are too many.
    bool list(const vfloat* best, int64_t n) {
        int64_t found = 0;
        for (int64_t k = 0; k < g.K; ++k) {
            begin.data[k] = found;
            for (int64_t v = 0; v < PACK / FLOATS && v * FLOATS < n; ++v) {
                const vfloat here = ((const vfloat*)high.data)[k * (PACK / FLOATS) + v];
                unsigned lanes = mask32((vint)~(here < best[v] - (float)NEGLIGIBLE));  // NaN may matter
                if (n - v * FLOATS < FLOATS) lanes &= (1u << (n - v * FLOATS)) - 1;
                found += write_lanes(lanes, (int32_t)(v * FLOATS), point.data + found);
            }
            if (found > most_pairs) return false;
        }
        begin.data[g.K] = found;
        for (int i = 0; i < DOUBLES; ++i) point.data[found + i] = 0;
        return true;
    }

    // Log-densities of a component's pairs, one vector of pairs at a time.
    void densities(int64_t k) {
        const vdouble *m = (const vdouble*)(mean.data + k * width), *w = (const vdouble*)(whitener.data + k * width);
        for (int64_t i = begin.data[k]; i < begin.data[k + 1]; i += DOUBLES) {
            const double* row[DOUBLES];
            vdouble sum[DOUBLES] = {};
            for (int j = 0; j < DOUBLES; ++j) row[j] = rows + point.data[i + j] * width;
            for (int64_t b = 0; b < width / DOUBLES; ++b)
                for (int j = 0; j < DOUBLES; ++j) {
                    const vdouble whitened = (load(row[j] + b * DOUBLES) - m[b]) * w[b];
                    sum[j] = fma(whitened, whitened, sum[j]);
                }
            const vdouble square = sums(sum);
            const vdouble distance = square < FARTHEST ? square : broadcast(FARTHEST);
            store(value.data + i, g.constant.data[k] - 0.5 * distance);
        }
    }
    // (Lanes beyond the last pair are overwritten by the next component.)

    // Turn log-densities into w gamma, and sum w_n log p(x_n). The background is that of each point, or null
    // if it is the same for all. If `density` isn't null, write log p(x_n).
    void weigh(const double* w, int64_t n, const double* background, double* log_likelihood, double* density) {
        const int64_t pairs = begin.data[g.K];
        alignas(64) double top[PACK], total[PACK], weight[PACK], other[DOUBLES];
        for (int64_t p = 0; p < PACK; ++p) top[p] = background ? background[p] : g.background, total[p] = 0.0;
        for (int64_t i = 0; i < pairs; ++i) {
            double& best = top[point.data[i]];
            best = value.data[i] > best ? value.data[i] : best;
        }
        for (int64_t i = 0; i < pairs; i += DOUBLES) {
            for (int j = 0; j < DOUBLES; ++j) other[j] = top[point.data[i + j]];
            const vdouble less = load(value.data + i) - *(const vdouble*)other;
            const vlong matters = -less < NEGLIGIBLE;
            store(value.data + i, (vdouble)((vlong)exponential(less) & matters));
        }
        for (int64_t i = 0; i < pairs; ++i) total[point.data[i]] += value.data[i];
        if (background || g.background > -INFINITY)
            for (int64_t v = 0; v < VECTORS; ++v) {
                const vdouble noise = background ? ((const vdouble*)background)[v] : broadcast(g.background);
                ((vdouble*)total)[v] += exponential(noise - ((vdouble*)top)[v]);
            }
        for (int64_t p = 0; p < PACK; ++p) weight[p] = p < n ? w[p] : 0.0;
        for (int64_t p = n; p < PACK; ++p) top[p] = 0.0, total[p] = 1.0;
        vdouble score[DOUBLES] = {};
        for (int64_t v = 0; v < VECTORS; ++v) {
            vdouble &sum = ((vdouble*)total)[v], best = ((vdouble*)top)[v], here = ((vdouble*)weight)[v];
            const vdouble log_density = best + logarithm(sum);
            score[0] += here * log_density;
            if (density && v * DOUBLES < n) write_first(log_density, n - v * DOUBLES, density + v * DOUBLES);
            sum = here / sum;
        }
        *log_likelihood += sums(score)[0];
        for (int64_t i = 0; i < pairs; ++i) value.data[i] *= total[point.data[i]];
    }

    // Add a component's pairs to its moments, two blocks of features of two points at a time.
    void moments(int64_t k, double* weight, double* first, double* second) const {
        const int64_t from = begin.data[k], to = begin.data[k + 1];
        vdouble shares[DOUBLES] = {};
        int64_t i = from;
        for (; i + DOUBLES <= to; i += DOUBLES) shares[0] += load(value.data + i);
        double sum = sums(shares)[0];
        for (; i < to; ++i) sum += value.data[i];
        *weight += sum;
        for (int64_t d = 0; d < width; d += PAIR * DOUBLES) {
            const vdouble* m = (const vdouble*)(mean.data + k * width + d);
            vdouble one[PAIR][PAIR] = {}, two[PAIR][PAIR] = {};
            for (i = from; i + PAIR <= to; i += PAIR) add(m, d, i, PAIR, one, two);
            if (i < to) add(m, d, i, 1, one, two);
            for (int b = 0; b < PAIR && d + b * DOUBLES < rounded_up(g.D, DOUBLES); ++b) {
                ((vdouble*)(first + d))[b] += one[0][b] + one[1][b];
                ((vdouble*)(second + d))[b] += two[0][b] + two[1][b];
            }
        }
    }

    inline void add(const vdouble* m, int64_t d, int64_t i, int points, vdouble (*one)[PAIR],
                    vdouble (*two)[PAIR]) const {
        for (int j = 0; j < points; ++j) {
            const double* row = rows + point.data[i + j] * width + d;
            for (int b = 0; b < PAIR; ++b) {
                const vdouble difference = load(row + b * DOUBLES) - m[b], scaled = difference * value.data[i + j];
                one[j][b] += scaled;
                two[j][b] = fma(difference, scaled, two[j][b]);
            }
        }
    }

    // Add a tile to all sums; add nothing and return false if too many pairs may matter.
    template <typename X>
    bool step(const X* x, const double* w, int64_t n, Sums& total, double* log_likelihood, double* density) {
        vfloat best[PACK / FLOATS];
        take(x, n);
        screen(best);
        if (!list(best, n)) return false;
        for (int64_t k = 0; k < g.K; ++k) densities(k);
        weigh(w, n, nullptr, log_likelihood, density);
        for (int64_t k = 0; k < g.K; ++k)
            moments(k, total.weight.data + k, total.first.data + k * total.width, total.second_of(k));
        return true;
    }
};

}  // namespace
