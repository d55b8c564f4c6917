// Rounding of points and centroids to int8 codes, four at a time; see int8_nearest.hpp.
#pragma once

#include "nearest.hpp"

#if defined(__AVX512VNNI__)

namespace {

constexpr int LANES = 16;                     // points of a vector, each with four codes
constexpr int64_t STEP = 4;                   // features that are multiplied together
constexpr float FINEST = 127.0f;              // codes go from -127 to 127
constexpr float EVERYTHING = 0x1p30f;         // a bound that rules out no centroid
constexpr float SLACK = 0x1p-20f;             // far above the rounding error of float32
constexpr int64_t MOST_FEATURES = 4096;       // sums of more could overflow
constexpr int64_t FEWEST_WORTH = 8;           // features, or centroids

inline __mmask16 lanes_below(int64_t n) {
    return n >= LANES ? 0xffff : n <= 0 ? 0 : (__mmask16)((1u << n) - 1);
}

inline vdouble load8(const double* x, __mmask16 here) {
    return _mm512_maskz_loadu_pd((__mmask8)here, x);
}

inline vdouble load8(const float* x, __mmask16 here) {
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps((__mmask8)here, x));
}

// The parameters of codes: (x - shift) * scale, in multiples of `unit`.
struct Origin {
    const double* shift;
    const float* narrow;
    double scale;

    // 16 features from d, padded by 0.
    vfloat at(const double* x, int64_t d, __mmask16 here) const {
        const vdouble* s = (const vdouble*)(shift + d);
        const vdouble low = (load8(x + d, here) - s[0]) * scale;
        const vdouble high = (load8(x + d + 8, here >> 8) - s[1]) * scale;
        return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
    }

    vfloat at(const float* x, int64_t d, __mmask16 here) const {
        const vfloat value = _mm512_maskz_loadu_ps(here, x + d);
        return (value - *(const vfloat*)(narrow + d)) * (float)scale;
    }
};

struct Grid {
    Buffer<double> shift;  // padded to 16 by 0
    Buffer<float> narrow;  // the same, for float32 points exactly
    double scale;

    Grid(int64_t width) : shift(width), narrow(width), scale(1.0) {}

    bool ok() const { return shift.ok() && narrow.ok(); }

    // A copy in registers, which stores can't change.
    Origin origin() const { return {shift.data, narrow.data, scale}; }
};

// The sums over lanes of four vectors.
inline __m128 sums4(const vfloat* v) {
    const __m512 ab = _mm512_unpacklo_ps(v[0], v[1]) + _mm512_unpackhi_ps(v[0], v[1]);
    const __m512 cd = _mm512_unpacklo_ps(v[2], v[3]) + _mm512_unpackhi_ps(v[2], v[3]);
    const __m512d low = _mm512_unpacklo_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512d high = _mm512_unpackhi_pd(_mm512_castps_pd(ab), _mm512_castps_pd(cd));
    const __m512 four = _mm512_castpd_ps(low) + _mm512_castpd_ps(high);
    const __m256 two = _mm512_castps512_ps256(four) + _mm512_extractf32x8_ps(four, 1);
    return _mm256_castps256_ps128(two) + _mm256_extractf128_ps(two, 1);
}

// Round four rows to codes; also the largest number, and the squares of numbers and remainders.
struct Encoder {
    const Origin origin;
    const float unit, inverse;
    vfloat squares[4], rests[4], farthest;

    Encoder(const Grid& grid, float unit)
        : origin(grid.origin()), unit(unit), inverse(1.0f / unit), squares{}, rests{}, farthest{} {}

    template <typename X>
    __m512i operator()(int i, const X* row, int64_t d, __mmask16 here) {
        const vfloat x = origin.at(row, d, here), reach = broadcast(FINEST);
        const __m512i code = _mm512_cvtps_epi32(most(least(x * inverse, reach), -reach));
        const vfloat rest = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(code), broadcast(unit), x);
        farthest = most(farthest, _mm512_abs_ps(x));
        squares[i] = fma(x, x, squares[i]);
        rests[i] = fma(rest, rest, rests[i]);
        return code;
    }
};

// Put the four codes of each row and step side by side; steps are `stride` apart.
inline void spread(const __m128i* code, int32_t* to, int64_t stride) {
    const __m128i a = _mm_unpacklo_epi32(code[0], code[1]), b = _mm_unpacklo_epi32(code[2], code[3]);
    const __m128i c = _mm_unpackhi_epi32(code[0], code[1]), d = _mm_unpackhi_epi32(code[2], code[3]);
    *(__m128i*)to = _mm_unpacklo_epi64(a, b);
    *(__m128i*)(to + stride) = _mm_unpackhi_epi64(a, b);
    *(__m128i*)(to + 2 * stride) = _mm_unpacklo_epi64(c, d);
    *(__m128i*)(to + 3 * stride) = _mm_unpackhi_epi64(c, d);
}

// The codes of the centroids, if `usable`.
struct Codes {
    const double* C;
    int64_t K, D, groups, steps, width;  // steps of four features; features padded to 16
    bool usable;
    Buffer<int8_t> code;      // (groups, width / STEP, GROUP, STEP)
    Buffer<float> half;       // |c'|^2 / 2, padded by infinity
    Buffer<int32_t> sum;      // 128 times the sum of the codes: those of points are 128 larger
    Grid grid;                // shifted by the centroids' mean
    float reach, unit, widest, rest;  // largest |c'_d|, s_c; largest |c'| and |r_c|

    Codes(const double* C, int64_t K, int64_t D, bool single)
        : C(C), K(K), D(D), groups(rounded_up(K, GROUP) / GROUP), steps(rounded_up(D, STEP) / STEP),
          width(rounded_up(D, LANES)), usable(K > FEWEST_WORTH && D >= FEWEST_WORTH && D <= MOST_FEATURES),
          code(usable ? groups * GROUP * width : 0), half(rounded_up(K, LANES)),
          sum(rounded_up(K, LANES)), grid(width), reach(0), unit(0), widest(0), rest(0) {
        if (!usable || !ok()) return;
        const double largest = centre(single);
        if (largest > 0.0 && largest < INFINITY) grid.scale = ldexp(1.0, -ilogb(largest));
        reach = (float)(largest * grid.scale);
        const double limit = single ? 0x1p120 : 0x1p1000;
        usable = reach > 0.0f && reach < 4.0f && grid.scale < limit && grid.scale > 1.0 / limit;
        unit = reach / FINEST;
        if (usable) fill();
    }

    bool ok() const { return code.ok() && half.ok() && sum.ok() && grid.ok(); }

    // Set the shift, and return the largest difference from it.
    double centre(bool single) {
        vdouble largest = {};
        for (int64_t d = 0; d < width; d += 8) {
            const __mmask16 here = lanes_below(D - d);
            vdouble total = {}, low = load8(C + d, here), high = low;
            for (int64_t k = 0; k < K; ++k) {
                const vdouble c = load8(C + k * D + d, here);
                total += c;
                low = _mm512_min_pd(low, c);
                high = _mm512_max_pd(high, c);
            }
            vdouble mean = total / (double)K;
            const __m256 narrow = _mm512_cvtpd_ps(mean);
            if (single) mean = _mm512_cvtps_pd(narrow);
            *(__m256*)(grid.narrow.data + d) = narrow;
            *(vdouble*)(grid.shift.data + d) = mean;
            largest = _mm512_max_pd(largest, _mm512_max_pd(high - mean, mean - low));
        }
        return _mm512_reduce_max_pd(largest);
    }

    void fill() {
        float widest2 = 0.0f, rest2 = 0.0f;
        for (int64_t g = 0; g < groups; ++g) {
            const int64_t there = K - g * GROUP;
            const double* row[GROUP];
            for (int64_t j = 0; j < GROUP; ++j) row[j] = C + (g * GROUP + (j < there ? j : 0)) * D;
            int32_t* to = (int32_t*)code.data + g * GROUP * (width / STEP);
            Encoder encode(grid, unit);
            vint total[GROUP] = {};
            for (int64_t d = 0; d < width; d += LANES, to += LANES) {
                const __mmask16 here = lanes_below(D - d);
                __m128i bytes[GROUP];
                for (int j = 0; j < GROUP; ++j) {
                    const __m512i codes = encode(j, row[j], d, here);
                    total[j] += (vint)codes;
                    bytes[j] = j < there ? _mm512_cvtepi32_epi8(codes) : _mm_setzero_si128();
                }
                spread(bytes, to, GROUP);
            }
            const __m128 squares = sums4(encode.squares), left = sums4(encode.rests);
            *(__m128*)(half.data + g * GROUP) = squares * 0.5f;
            for (int j = 0; j < GROUP; ++j) {
                sum.data[g * GROUP + j] = 128 * _mm512_reduce_add_epi32((__m512i)total[j]);
                widest2 = most_of(widest2, squares[j]);
                rest2 = most_of(rest2, left[j]);
            }
        }
        for (int64_t k = K; k < rounded_up(K, LANES); ++k) half.data[k] = INFINITY, sum.data[k] = 0;
        widest = sqrtf(widest2) * (1.0f + SLACK);
        rest = sqrtf(rest2) * (1.0f + SLACK) + SLACK * widest;
    }

    static float most_of(float a, float b) { return a > b ? a : b; }
};

}  // namespace

#endif
