// Vectors of the target's width, with the vector extensions of GCC and Clang; intrinsics only where
// those have no equivalent. Compile with -ffp-contract=off: fused operations are explicit `fma` calls.
//
// Don't include headers with inline functions here: the linker keeps one copy of each function, maybe
// the one that was compiled for the newest processor.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

#if defined(__AVX512F__)
#define BYTES_64 1
constexpr int BYTES = 64, POINT_VECTORS = 4;
#elif defined(__AVX2__)
#define BYTES_32 1
constexpr int BYTES = 32, POINT_VECTORS = 2;
#elif defined(__aarch64__)
constexpr int BYTES = 16, POINT_VECTORS = 4;
#else
constexpr int BYTES = 16, POINT_VECTORS = 2;
#endif

typedef float vfloat __attribute__((vector_size(BYTES)));
typedef int32_t vint __attribute__((vector_size(BYTES)));
typedef double vdouble __attribute__((vector_size(BYTES)));
typedef int64_t vlong __attribute__((vector_size(BYTES)));
typedef uint64_t vulong __attribute__((vector_size(BYTES)));
typedef double vquad __attribute__((vector_size(32)));  // four doubles on any target
typedef int64_t vlong4 __attribute__((vector_size(32)));
typedef float vfloat4 __attribute__((vector_size(16)));

typedef double loose_vdouble __attribute__((vector_size(BYTES), aligned(8)));  // at any address
typedef float loose_half __attribute__((vector_size(BYTES / 2), aligned(4)));
typedef double loose_vquad __attribute__((vector_size(32), aligned(8)));
typedef float loose_vfloat4 __attribute__((vector_size(16), aligned(4)));

constexpr int FLOATS = BYTES / 4, DOUBLES = BYTES / 8;

inline vfloat broadcast(float value) { return value - (vfloat){}; }
inline vdouble broadcast(double value) { return value - (vdouble){}; }

inline vdouble load(const double* from) { return *(const loose_vdouble*)from; }
inline void store(double* to, vdouble value) { *(loose_vdouble*)to = value; }
inline vquad load4(const double* from) { return *(const loose_vquad*)from; }

// With __builtin_convertvector, GCC would convert both halves separately.
#if defined(__AVX512F__)
inline vdouble load(const float* from) { return _mm512_cvtps_pd(_mm256_loadu_ps(from)); }
#elif defined(__AVX2__)
inline vdouble load(const float* from) { return _mm256_cvtps_pd(_mm_loadu_ps(from)); }
#else
inline vdouble load(const float* from) { return __builtin_convertvector(*(const loose_half*)from, vdouble); }
#endif
#if defined(__AVX2__)
inline vquad load4(const float* from) { return _mm256_cvtps_pd(_mm_loadu_ps(from)); }
#else
inline vquad load4(const float* from) { return __builtin_convertvector(*(const loose_vfloat4*)from, vquad); }
#endif

#if defined(__AVX512F__)
inline vfloat fma(vfloat a, vfloat b, vfloat c) { return _mm512_fmadd_ps(a, b, c); }
inline vdouble fma(vdouble a, vdouble b, vdouble c) { return _mm512_fmadd_pd(a, b, c); }
inline vfloat least(vfloat a, vfloat b) { return _mm512_min_ps(a, b); }
inline vfloat most(vfloat a, vfloat b) { return _mm512_max_ps(a, b); }
inline vdouble most(vdouble a, vdouble b) { return _mm512_max_pd(a, b); }
inline vint where_less(vfloat a, vfloat b, vint yes, vint no) {
    return (vint)_mm512_mask_mov_epi32(
        (__m512i)no, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), (__m512i)yes);
}
#elif defined(__AVX2__)
inline vfloat fma(vfloat a, vfloat b, vfloat c) { return _mm256_fmadd_ps(a, b, c); }
inline vdouble fma(vdouble a, vdouble b, vdouble c) { return _mm256_fmadd_pd(a, b, c); }
inline vfloat least(vfloat a, vfloat b) { return _mm256_min_ps(a, b); }
inline vfloat most(vfloat a, vfloat b) { return _mm256_max_ps(a, b); }
inline vdouble most(vdouble a, vdouble b) { return _mm256_max_pd(a, b); }
inline vint where_less(vfloat a, vfloat b, vint yes, vint no) { return a < b ? yes : no; }
#else
#if defined(__aarch64__)
inline vfloat fma(vfloat a, vfloat b, vfloat c) { return (vfloat)vfmaq_f32(c, a, b); }
inline vdouble fma(vdouble a, vdouble b, vdouble c) { return (vdouble)vfmaq_f64(c, a, b); }
#else
inline vfloat fma(vfloat a, vfloat b, vfloat c) { return a * b + c; }
inline vdouble fma(vdouble a, vdouble b, vdouble c) { return a * b + c; }
#endif
inline vfloat least(vfloat a, vfloat b) { return a < b ? a : b; }
inline vfloat most(vfloat a, vfloat b) { return a > b ? a : b; }
inline vdouble most(vdouble a, vdouble b) { return a > b ? a : b; }
inline vint where_less(vfloat a, vfloat b, vint yes, vint no) { return a < b ? yes : no; }
#endif

// Add pairs of blocks of `S` lanes: lane l of the result is the sum of two lanes of `b` if l has the
// bit S, else of two lanes of `a`.
#define PICK(l) ((l) & S ? (l) + DOUBLES : (l))
#define SWAP(l) ((l) & S ? ((l) ^ S) + DOUBLES : (l) ^ S)
#if BYTES_64
#define LANES(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
#elif BYTES_32
#define LANES(f) f(0), f(1), f(2), f(3)
#else
#define LANES(f) f(0), f(1)
#endif
template <int S>
inline vdouble fold(vdouble a, vdouble b) {
#if defined(__clang__)
    return __builtin_shufflevector(a, b, LANES(PICK)) + __builtin_shufflevector(a, b, LANES(SWAP));
#else
    return __builtin_shuffle(a, b, (vlong){LANES(PICK)}) +
           __builtin_shuffle(a, b, (vlong){LANES(SWAP)});
#endif
}

// The sums over lanes of as many vectors as a vector has lanes.
inline vdouble sums(const vdouble* v) {
#if BYTES_64
    vdouble low = fold<2>(fold<1>(v[0], v[1]), fold<1>(v[2], v[3]));
    return fold<4>(low, fold<2>(fold<1>(v[4], v[5]), fold<1>(v[6], v[7])));
#elif BYTES_32
    return fold<2>(fold<1>(v[0], v[1]), fold<1>(v[2], v[3]));
#else
    return fold<1>(v[0], v[1]);
#endif
}

// The true lanes as bits.
inline unsigned mask(vlong which) {
#if defined(__AVX512F__)
    return _mm512_movepi64_mask((__m512i)which);
#elif defined(__AVX2__)
    return (unsigned)_mm256_movemask_pd((__m256d)which);
#else
    return (unsigned)(which[0] & 1 | which[1] & 2);
#endif
}

inline unsigned mask32(vint which) {
#if defined(__AVX512F__)
    return _mm512_movepi32_mask((__m512i)which);
#elif defined(__AVX2__)
    return (unsigned)_mm256_movemask_ps((__m256)which);
#else
    return (unsigned)(which[0] & 1 | which[1] & 2 | which[2] & 4 | which[3] & 8);
#endif
}

// Write the numbers of the set lanes, counted from `first`. Returns the count; up to FLOATS numbers
// after them are overwritten.
inline int64_t write_lanes(unsigned lanes, int32_t first, int32_t* to) {
#if defined(__AVX512F__)
    const __m512i numbers = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i all = _mm512_add_epi32(numbers, _mm512_set1_epi32(first));
    _mm512_storeu_si512(to, _mm512_maskz_compress_epi32((__mmask16)lanes, all));
    return __builtin_popcount(lanes);
#else
    int64_t n = 0;
    for (; lanes; lanes &= lanes - 1) to[n++] = first + __builtin_ctz(lanes);
    return n;
#endif
}

// Four rows become columns.
template <typename V>
inline void transpose4(V* v) {
#if defined(__clang__)
    const V a = __builtin_shufflevector(v[0], v[1], 0, 4, 2, 6), b = __builtin_shufflevector(v[0], v[1], 1, 5, 3, 7);
    const V c = __builtin_shufflevector(v[2], v[3], 0, 4, 2, 6), d = __builtin_shufflevector(v[2], v[3], 1, 5, 3, 7);
    v[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5), v[1] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
    v[2] = __builtin_shufflevector(a, c, 2, 3, 6, 7), v[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
#else
    typedef decltype(v[0] == v[1]) I;
    const V a = __builtin_shuffle(v[0], v[1], (I){0, 4, 2, 6}), b = __builtin_shuffle(v[0], v[1], (I){1, 5, 3, 7});
    const V c = __builtin_shuffle(v[2], v[3], (I){0, 4, 2, 6}), d = __builtin_shuffle(v[2], v[3], (I){1, 5, 3, 7});
    v[0] = __builtin_shuffle(a, c, (I){0, 1, 4, 5}), v[1] = __builtin_shuffle(b, d, (I){0, 1, 4, 5});
    v[2] = __builtin_shuffle(a, c, (I){2, 3, 6, 7}), v[3] = __builtin_shuffle(b, d, (I){2, 3, 6, 7});
#endif
}

// The least of four lanes, in each of them.
inline vquad least_lane(vquad v) {
#if defined(__clang__)
    vquad other = __builtin_shufflevector(v, v, 1, 0, 3, 2);
    v = other < v ? other : v;
    other = __builtin_shufflevector(v, v, 2, 3, 0, 1);
#else
    vquad other = __builtin_shuffle(v, (vlong4){1, 0, 3, 2});
    v = other < v ? other : v;
    other = __builtin_shuffle(v, (vlong4){2, 3, 0, 1});
#endif
    return other < v ? other : v;
}

// The number of the first true lane; 3 if none is true, as with NaN.
inline int64_t first_true(vlong4 mask) {
#if defined(__AVX2__)
    return __builtin_ctz((unsigned)_mm256_movemask_pd((__m256d)mask) | 1u << 3);
#else
    return 3 + (mask[0] * 3 | ~mask[0] & (mask[1] * 2 | ~mask[1] & mask[2]));
#endif
}

inline vfloat4 narrowed(vquad v) { return __builtin_convertvector(v, vfloat4); }

inline int64_t rounded_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }

// Memory aligned for vectors and freed with its owner; `ok` is false if there wasn't enough.
template <typename T>
struct Buffer {
    void* memory;  // from malloc: aligned_alloc takes four times as long
    T* data;
    explicit Buffer(int64_t n)
        : memory(allocated(n)), data((T*)(((uintptr_t)memory + 63) & ~(uintptr_t)63)) {}
    ~Buffer() { free(memory); }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    bool ok() const { return memory != nullptr; }

    static void* allocated(int64_t n) {
        size_t size;
        const bool too_many = n < 0 || __builtin_mul_overflow((size_t)n, sizeof(T), &size);
        return too_many || size > SIZE_MAX - 127 ? nullptr : malloc(size + 127);
    }
};

}  // namespace
