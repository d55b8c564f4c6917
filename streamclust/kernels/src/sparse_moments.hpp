// Moments of full and tied mixtures, from the pairs of a point and a component that matter only.
//
// If components lie far apart, nearly all responsibilities gamma_nk are negligible. Points with a
// responsibility in a component are added singly, with features across lanes.
#pragma once

#include "diag_screen.hpp"

namespace {

constexpr double NEVER = 1e300;            // the same, to use all pairs
constexpr int64_t TOGETHER = 4 * DOUBLES;  // points that are added together

struct Active {
    const Gaussians& g;
    int64_t width, triangle;  // D padded; cells of square blocks of a lower triangle
    Buffer<double> difference, scaled, second;

    Active(const Gaussians& g)
        : g(g), width(rounded_up(g.D, DOUBLES)), triangle(width * (width + DOUBLES) / 2),
          difference(TOGETHER * width), scaled(TOGETHER * width), second(cells()) {
        if (!ok()) return;
        for (int64_t i = 0; i < TOGETHER * width; ++i) difference.data[i] = scaled.data[i] = 0.0;
        clear();
    }

    void clear() {
        for (int64_t i = 0; i < cells(); ++i) second.data[i] = 0.0;
    }

    bool ok() const { return difference.ok() && scaled.ok() && second.ok(); }

    bool worth() const { return g.matrix && g.D >= FEWEST_FEATURES && g.K > 1; }

    int64_t cells() const { return worth() ? (g.shared ? 1 : g.K) * triangle : 0; }

    // Cell (i, j) of the second moments.
    double cell(int64_t k, int64_t i, int64_t j) const {
        const int64_t b = i / DOUBLES, block = b * (b + 1) / 2 + j / DOUBLES;
        const double* from = second.data + k * triangle;
        return cells() ? from[(block * DOUBLES + i % DOUBLES) * DOUBLES + j % DOUBLES] : 0.0;
    }

    // Add the points with a responsibility in component k to its moments. The second moments are
    // square blocks of DOUBLES rows of the lower triangle.
    template <typename X>
    void scatter(const X* x, const Tile& tile, int64_t k, double* first) const {
        int64_t list[PACK], n = 0;
        for (int64_t v = 0; v < VECTORS; ++v)
            for (unsigned lanes = mask(tile.row(tile.joint, k)[v] > 0.0); lanes; lanes &= lanes - 1)
                list[n++] = v * DOUBLES + __builtin_ctz(lanes);
        double* two = second.data + (g.shared ? 0 : k * triangle);
        for (int64_t start = 0; start < n; start += TOGETHER) {
            const int64_t here = n - start < TOGETHER ? n - start : TOGETHER;
            subtract(x, tile.joint.data + k * PACK, k, list + start, here, (vdouble*)first);
            add_matrix(here, (vdouble*)two);
        }
    }

    // (x - mu) and gamma (x - mu) of listed points, and the first moment.
    template <typename X>
    void subtract(const X* x, const double* share, int64_t k, const int64_t* list, int64_t n,
                  vdouble* first) const {
        const double* mean = g.means + k * g.D;
        for (int64_t p = 0; p < n; ++p) {
            const X* from = x + list[p] * g.D;
            double *row = difference.data + p * width, *weighted = scaled.data + p * width;
            for (int64_t d = 0; d < g.D; ++d) row[d] = (double)from[d] - mean[d];
            for (int64_t b = 0; b < width / DOUBLES; ++b) {
                ((vdouble*)weighted)[b] = ((vdouble*)row)[b] * share[list[p]];
                first[b] += ((vdouble*)weighted)[b];
            }
        }
    }

    void add_matrix(int64_t n, vdouble* second) const {
        for (int64_t i = 0; i < width; i += DOUBLES)
            for (int64_t j = 0; j <= i; j += DOUBLES, second += DOUBLES) {
                vdouble sum[DOUBLES];
                for (int r = 0; r < DOUBLES; ++r) sum[r] = second[r];
                for (int64_t p = 0; p < n; ++p) {
                    const vdouble row = *(const vdouble*)(difference.data + p * width + j);
                    const double* factor = scaled.data + p * width + i;
                    for (int r = 0; r < DOUBLES; ++r) sum[r] = fma(row, broadcast(factor[r]), sum[r]);
                }
                for (int r = 0; r < DOUBLES; ++r) second[r] = sum[r];
            }
    }

};

}  // namespace
