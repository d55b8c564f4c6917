// First and second moments of a tile: all points under all components.
#pragma once

#include "gaussians.hpp"

namespace {

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
        if (ok()) clear();
    }

    void clear() {
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
    constexpr int SOME = DOUBLES < 4 ? DOUBLES : 4;  // features together: a single sum would wait for its own result
    const vdouble* share = tile.row(tile.joint, k);
    for (int64_t d = 0; d < g.D; d += DOUBLES) {
        vdouble one[DOUBLES] = {}, two[DOUBLES] = {};
        for (int64_t j = 0; j < DOUBLES; j += SOME) {
            const vdouble* x[SOME];
            double mean[SOME];
            for (int q = 0; q < SOME; ++q) {
                const int64_t feature = d + j + q < g.D ? d + j + q : g.D - 1;  // repeated, not used
                x[q] = tile.row(tile.points, feature), mean[q] = g.means[k * g.D + feature];
            }
            for (int64_t v = 0; v < VECTORS; ++v)
                for (int q = 0; q < SOME; ++q) {
                    vdouble difference = x[q][v] - mean[q];
                    vdouble scaled = share[v] * difference;
                    one[j + q] += scaled;
                    two[j + q] = fma(scaled, difference, two[j + q]);
                }
        }
        *(vdouble*)(first + d) += sums(one);
        *(vdouble*)(second + d) += sums(two);
    }
}

}  // namespace
