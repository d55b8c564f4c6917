// Points with missing values by their missingness pattern: which features are missing.
#pragma once

#include <string.h>

#include "simd.hpp"

namespace {

// Each byte with its bits in reverse order.
struct Reversed {
    uint8_t of[256];
    constexpr Reversed() : of() {
        for (int byte = 0; byte < 256; ++byte)
            for (int bit = 0; bit < 8; ++bit) of[byte] |= (byte >> bit & 1) << (7 - bit);
    }
};

constexpr Reversed REVERSED;

// Write which values of a point are missing as (D + 7) / 8 bytes, feature 0 as the highest bit of the
// first one. Returns whether any is missing.
template <typename X>
bool write_pattern(const X* x, int64_t D, uint8_t* to) {
    unsigned any = 0;
    int64_t d = 0;
    for (; d + 8 <= D; d += 8) {
        unsigned bits = 0;
        for (int64_t j = 0; j < 8; j += DOUBLES) {
            const vdouble values = load(x + d + j);
            bits |= mask(values != values) << j;
        }
        any |= *to++ = REVERSED.of[bits];
    }
    if (d == D) return any;
    unsigned bits = 0;
    for (int64_t j = 0; d + j < D; ++j) bits |= (unsigned)(x[d + j] != x[d + j]) << (7 - j);
    return any | (*to = (uint8_t)bits);
}

// Write the rows of points without a missing value, and of those with one; returns the number of the
// former.
template <typename X>
int64_t split_rows(const X* x, int64_t N, int64_t D, int64_t* complete, int64_t* gappy) {
    int64_t whole = 0;
    for (int64_t n = 0; n < N; ++n, x += D) {
        bool missing = false;
        vlong any = {};
        int64_t d = 0;
        for (; d + DOUBLES <= D; d += DOUBLES) {
            const vdouble values = load(x + d);
            any |= values != values;
        }
        for (; d < D; ++d) missing |= x[d] != x[d];
        missing |= mask(any) != 0;
        complete[whole] = n, gappy[n - whole] = n;
        whole += !missing;
    }
    return whole;
}

// Sort rows (n,) of points with missing values by their patterns, in the order of their bits; the rows of
// a pattern keep their order. Pattern p has rows starts[p] to starts[p + 1] - 1. Returns the number of
// patterns, or -1 if there wasn't enough memory.
template <typename X>
int64_t sort_by_pattern(const X* x, int64_t D, int64_t* rows, int64_t n, int64_t* starts) {
    const int64_t bytes = (D + 7) / 8;
    Buffer<uint8_t> pattern(n * bytes);
    Buffer<int64_t> memory(3 * n);
    if (!pattern.ok() || !memory.ok()) return -1;
    int64_t *order = memory.data, *other = order + n, *copy = other + n;
    for (int64_t i = 0; i < n; ++i) {
        write_pattern(x + rows[i] * D, D, pattern.data + i * bytes);
        order[i] = i, copy[i] = rows[i];
    }
    for (int64_t b = bytes - 1; b >= 0; --b) {  // radix sort, from the last byte
        int64_t begin[257] = {};
        for (int64_t i = 0; i < n; ++i) ++begin[1 + pattern.data[i * bytes + b]];
        if (n && begin[1 + pattern.data[b]] == n) continue;
        for (int i = 0; i < 256; ++i) begin[i + 1] += begin[i];
        for (int64_t i = 0; i < n; ++i) other[begin[pattern.data[order[i] * bytes + b]]++] = order[i];
        int64_t* const sorted = other;
        other = order, order = sorted;
    }
    int64_t P = 0;
    const uint8_t* before = nullptr;
    for (int64_t i = 0; i < n; ++i) {
        const uint8_t* here = pattern.data + order[i] * bytes;
        rows[i] = copy[order[i]];
        if (!before || memcmp(before, here, (size_t)bytes)) starts[P++] = i;
        before = here;
    }
    starts[P] = n;
    return P;
}

}  // namespace
