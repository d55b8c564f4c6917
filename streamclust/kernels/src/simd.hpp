// Vectors as wide as the target has them, by GCC's and Clang's vector extensions; intrinsics only
// for what those can't say. Compile with -ffp-contract=off: what is fused is said by `fma`.
//
// No header with inline functions may be used here: the linker would keep one copy of each, and
// it may be the one that was compiled for the newest processor.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int BYTES = 64, POINT_VECTORS = 4;
#elif defined(__AVX2__)
constexpr int BYTES = 32, POINT_VECTORS = 2;
#else
constexpr int BYTES = 16, POINT_VECTORS = 2;
#endif

typedef float vfloat __attribute__((vector_size(BYTES)));
typedef int32_t vint __attribute__((vector_size(BYTES)));
typedef double vdouble __attribute__((vector_size(BYTES)));
typedef double vquad __attribute__((vector_size(32)));  // four doubles on any target

constexpr int FLOATS = BYTES / 4, DOUBLES = BYTES / 8;

inline vfloat broadcast(float value) { return value - (vfloat){}; }

#if defined(__AVX512F__)
inline vfloat fma(vfloat a, vfloat b, vfloat c) { return _mm512_fmadd_ps(a, b, c); }
inline vdouble fma(vdouble a, vdouble b, vdouble c) { return _mm512_fmadd_pd(a, b, c); }
inline vfloat least(vfloat a, vfloat b) { return _mm512_min_ps(a, b); }
inline vfloat most(vfloat a, vfloat b) { return _mm512_max_ps(a, b); }
inline vint where_less(vfloat a, vfloat b, vint yes, vint no) {
    return (vint)_mm512_mask_mov_epi32(
        (__m512i)no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), (__m512i)yes);
}
#elif defined(__AVX2__)
inline vfloat fma(vfloat a, vfloat b, vfloat c) { return _mm256_fmadd_ps(a, b, c); }
inline vdouble fma(vdouble a, vdouble b, vdouble c) { return _mm256_fmadd_pd(a, b, c); }
inline vfloat least(vfloat a, vfloat b) { return _mm256_min_ps(a, b); }
inline vfloat most(vfloat a, vfloat b) { return _mm256_max_ps(a, b); }
inline vint where_less(vfloat a, vfloat b, vint yes, vint no) { return a < b ? yes : no; }
#else
inline vfloat fma(vfloat a, vfloat b, vfloat c) { return a * b + c; }
inline vdouble fma(vdouble a, vdouble b, vdouble c) { return a * b + c; }
inline vfloat least(vfloat a, vfloat b) { return a < b ? a : b; }
inline vfloat most(vfloat a, vfloat b) { return a > b ? a : b; }
inline vint where_less(vfloat a, vfloat b, vint yes, vint no) { return a < b ? yes : no; }
#endif

inline int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Memory that is aligned for vectors and freed with its owner; `ok` tells whether there was any.
template <typename T>
struct Buffer {
    T* data;
    explicit Buffer(int64_t n)
        : data((T*)aligned_alloc(64, (size_t)rounded_up((n ? n : 1) * (int64_t)sizeof(T), 64))) {}
    ~Buffer() { free(data); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    bool ok() const { return data != nullptr; }
};

}  // namespace
