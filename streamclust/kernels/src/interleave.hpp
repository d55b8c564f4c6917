// Columns of a table become its rows.
#pragma once

#include "simd.hpp"

namespace {

template <typename T>
struct Four {
    typedef T vector __attribute__((vector_size(4 * sizeof(T))));
    typedef T loose __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T))));
};

// Eight rows of four columns: eight numbers fill a cache line of a column.
template <typename T>
inline void interleave_block(const T* const* columns, int64_t n, int64_t F, T* rows) {
#if defined(__AVX2__)
    typedef typename Four<T>::vector Vector;
    typedef typename Four<T>::loose Loose;
    for (int64_t half = n; half < n + 8; half += 4) {
        Vector four[4];
        for (int j = 0; j < 4; ++j) four[j] = *(const Loose*)(columns[j] + half);
        transpose4(four);
        for (int i = 0; i < 4; ++i) *(Loose*)(rows + (half + i) * F) = four[i];
    }
#else
    for (int64_t i = n; i < n + 8; ++i)
        for (int j = 0; j < 4; ++j) rows[i * F + j] = columns[j][i];
#endif
}

// Write F columns of N numbers to rows of F.
template <typename T>
void interleave(const T* const* columns, int64_t N, int64_t F, T* rows) {
    int64_t n = 0;
    for (; n + 8 <= N; n += 8) {
        int64_t f = 0;
        for (; f + 4 <= F; f += 4) interleave_block(columns + f, n, F, rows + f);
        for (; f < F; ++f)
            for (int64_t i = n; i < n + 8; ++i) rows[i * F + f] = columns[f][i];
    }
    for (; n < N; ++n)
        for (int64_t f = 0; f < F; ++f) rows[n * F + f] = columns[f][n];
}

}  // namespace
