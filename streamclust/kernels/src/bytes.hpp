// Nearest centroids by products of bytes: they rule out nearly all, float64 decides among the rest.
//
// The processor multiplies four times as many bytes as floats. Points and centroids are shifted and
// scaled as for float32 (nearest.hpp), x' and c', and rounded to codes of a byte, which leave rests:
// x' = s_x q_x + r_x, c' = s_c q_c + r_c. Then
//
//     x'.c' = s_x s_c q_x.q_c + e,    |e| <= |s_x q_x| |r_c| + |r_x| |c'|     (Cauchy, Schwarz)
//
// with the norms of the rests as they were measured, so that a point beyond the codes' reach only
// has a larger bound. A centroid can be the nearest only if q_x.q_c - |c'|^2 / (2 s_x s_c) is within
// twice that bound of the largest. Those few are compared by canonical distances; tiles where they
// are many go by float32, and so do some of those that follow.
#pragma once

#include "nearest.hpp"

#if defined(__AVX512VNNI__)

namespace {

constexpr int LANES = 16;                     // points of a vector, each with four codes
constexpr int64_t STEP = 4;                   // features that are multiplied at once
constexpr float FINEST = 127.0f;              // codes go from -127 to 127
constexpr float EVERYTHING = 0x1p30f;         // a bound that rules out nothing
constexpr float SLACK = 0x1p-20f;             // far more than rounding to float32 can do
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

// What the codes of features are made with: (x - shift) * scale, in units of `unit`.
struct Grid {
    Buffer<double> shift;  // padded to 16 by 0
    Buffer<float> narrow;  // the same, for float32 points exactly
    double scale;

    Grid(int64_t width) : shift(width), narrow(width), scale(1.0) {}

    bool ok() const { return shift.ok() && narrow.ok(); }

    // 16 features from d; 0 where there are fewer.
    vfloat at(const double* x, int64_t d, __mmask16 here) const {
        const vdouble* s = (const vdouble*)(shift.data + d);
        const vdouble low = (load8(x + d, here) - s[0]) * scale;
        const vdouble high = (load8(x + d + 8, here >> 8) - s[1]) * scale;
        return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
    }

    vfloat at(const float* x, int64_t d, __mmask16 here) const {
        const vfloat value = _mm512_maskz_loadu_ps(here, x + d);
        return (value - *(const vfloat*)(narrow.data + d)) * (float)scale;
    }
};

// Numbers rounded to codes, with sums of the squares of numbers and rests.
struct Encoder {
    float unit, inverse;
    vfloat squares, rests;

    explicit Encoder(float unit) : unit(unit), inverse(1.0f / unit), squares{}, rests{} {}

    __m512i operator()(vfloat x) {
        const vfloat reach = broadcast(FINEST);
        const __m512i code = _mm512_cvtps_epi32(most(least(x * inverse, reach), -reach));
        const vfloat rest = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(code), broadcast(unit), x);
        squares = fma(x, x, squares);
        rests = fma(rest, rest, rests);
        return code;
    }

    void finish(float* square, float* rest) const {
        const __m512 both = _mm512_shuffle_f32x4(squares, rests, 0x44) + _mm512_shuffle_f32x4(squares, rests, 0xee);
        const __m512 four = both + _mm512_shuffle_f32x4(both, both, 0xb1);
        const __m512 two = four + _mm512_permute_ps(four, 0x4e);
        const __m512 one = two + _mm512_permute_ps(two, 0xb1);
        *square = one[0], *rest = one[8];
    }
};

// Four codes each of four steps, `stride` apart.
inline void spread(__m128i code, int32_t* to, int64_t stride, int64_t steps) {
    to[0] = _mm_cvtsi128_si32(code);
    if (steps > 1) to[stride] = _mm_extract_epi32(code, 1);
    if (steps > 2) to[2 * stride] = _mm_extract_epi32(code, 2);
    if (steps > 3) to[3 * stride] = _mm_extract_epi32(code, 3);
}

// The codes of the centroids. `usable` tells whether there are any.
struct Codes {
    const double* C;
    int64_t K, D, groups, steps, width;  // steps of four features; features padded to 16
    bool usable;
    Buffer<int8_t> code;      // (groups, width / STEP, GROUP, STEP)
    Buffer<float> half;       // |c'|^2 / 2, padded by infinity
    Buffer<int32_t> sum;      // 128 times the sum of the codes: those of points are 128 larger
    Grid grid;                // shifted by the centroids' mean
    float reach, unit, widest, rest;  // largest |c'_d|, a code's worth; largest |c'| and |r_c|

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
        for (int64_t i = (groups - 1) * GROUP * width; i < groups * GROUP * width; i += 64)
            _mm512_store_si512(code.data + i, _mm512_setzero_si512());
        for (int64_t k = K; k < rounded_up(K, LANES); ++k) half.data[k] = INFINITY, sum.data[k] = 0;
        for (int64_t k = 0; k < K; ++k) {
            int32_t* to = (int32_t*)code.data + k / GROUP * GROUP * (width / STEP) + k % GROUP;
            Encoder encode(unit);
            vint total = {};
            for (int64_t d = 0; d < width; d += LANES, to += 4 * GROUP) {
                const __m512i codes = encode(grid.at(C + k * D, d, lanes_below(D - d)));
                total += (vint)codes;
                spread(_mm512_cvtepi32_epi8(codes), to, GROUP, 4);
            }
            float square, left;
            encode.finish(&square, &left);
            half.data[k] = 0.5f * square;
            sum.data[k] = 128 * _mm512_reduce_add_epi32((__m512i)total);
            widest = most_of(widest, square);
            rest = most_of(rest, left);
        }
        widest = sqrtf(widest) * (1.0f + SLACK);
        rest = sqrtf(rest) * (1.0f + SLACK) + SLACK * widest;
    }

    static float most_of(float a, float b) { return a > b ? a : b; }
};

// In every lane, add four products to `sum`. By the intrinsic, GCC copies every sum around.
inline void add_products(__m512i& sum, __m512i points, __m512i centroid) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(points), "v"(centroid));
}

// The scores of all groups, and the largest of each point. A function apart, where the compiler has
// registers for all sums.
__attribute__((noinline)) void multiply(const int32_t* lanes, const Codes& codes, const int32_t* start,
                                        int32_t* score, vint* best) {
    constexpr int V = POINT_VECTORS;
    const int64_t steps = codes.steps, padding = (codes.width / STEP - steps) * GROUP;
    const int32_t* c = (const int32_t*)codes.code.data;
    vint top[V];
    for (int v = 0; v < V; ++v) top[v] = INT32_MIN - (vint){};
    for (int64_t g = 0; g < codes.groups; ++g, start += GROUP, score += TILE, c += padding) {
        __m512i sum[GROUP][V];
        for (int j = 0; j < GROUP; ++j)
            for (int v = 0; v < V; ++v) sum[j][v] = _mm512_set1_epi32(start[j]);
        const int32_t* x = lanes;
        for (int64_t s = 0; s < steps; ++s, x += TILE, c += GROUP) {
            __m512i four[V];
            for (int v = 0; v < V; ++v) four[v] = _mm512_load_si512(x + v * LANES);
            for (int j = 0; j < GROUP; ++j) {
                const __m512i factor = _mm512_set1_epi32(c[j]);
                for (int v = 0; v < V; ++v) add_products(sum[j][v], four[v], factor);
            }
        }
        for (int v = 0; v < V; ++v) {
            const __m512i most4 = _mm512_max_epi32(_mm512_max_epi32(sum[0][v], sum[1][v]),
                                                   _mm512_max_epi32(sum[2][v], sum[3][v]));
            top[v] = (vint)_mm512_max_epi32((__m512i)top[v], most4);
            _mm512_store_si512(score + v * LANES, most4);
        }
    }
    for (int v = 0; v < V; ++v) best[v] = top[v];
}

// A tile of points in codes, and what is found about it.
struct CodedTile {
    const Codes& codes;
    int64_t most_pairs;       // more would take as long as float32
    float extent;             // how far codes reach: as the points that were seen last
    Buffer<uint8_t> rows;     // (TILE, width)
    Buffer<int32_t> lanes;    // (steps, TILE), four codes each
    Buffer<int32_t> start;    // (K,): what sums of products start from
    Buffer<int32_t> score;    // (groups, TILE): the largest of each group
    Buffer<int32_t> point, centroid;  // pairs that remain
    alignas(64) float norm[TILE], rest[TILE];
    alignas(64) int32_t limit[TILE];  // centroids of lower scores are ruled out

    CodedTile(const Codes& codes)
        : codes(codes), most_pairs(codes.usable ? TILE + 5 * codes.K * codes.D / (codes.D + 50) : 0), extent(0),
          rows(codes.usable ? TILE * codes.width : 0), lanes(codes.usable ? TILE * codes.steps : 0),
          start(codes.usable ? rounded_up(codes.K, LANES) : 0), score(codes.usable ? codes.groups * TILE : 0),
          point(most_pairs + GROUP * TILE), centroid(most_pairs + GROUP * TILE) {}

    bool ok() const {
        return rows.ok() && lanes.ok() && start.ok() && score.ok() && point.ok() &&
               centroid.ok();
    }

    // The reach of codes for points as far as this, between a fourth and four times the centroids'.
    void reach(float farthest) {
        farthest = farthest < 4.0f * codes.reach ? farthest : 4.0f * codes.reach;
        extent = farthest > 0.25f * codes.reach ? farthest : 0.25f * codes.reach;
    }

    template <typename X>
    void look(const X* x, int64_t n) {
        vfloat farthest = {};
        for (int64_t p = 0; p < n; ++p)
            for (int64_t d = 0; d < codes.width; d += LANES)
                farthest = most(farthest, _mm512_abs_ps(codes.grid.at(x + p * codes.D, d, lanes_below(codes.D - d))));
        reach(_mm512_reduce_max_ps(farthest));
    }

    // Codes of n points. Returns what a code is worth.
    template <typename X>
    float load(const X* x, int64_t n) {
        if (extent == 0.0f) look(x, n);
        const int64_t D = codes.D, width = codes.width;
        const float unit = extent / FINEST;
        const __m128i middle = _mm_set1_epi8((char)128);
        vfloat farthest = {};
        for (int64_t p = 0; p < n; ++p) {
            Encoder encode(unit);
            for (int64_t d = 0; d < width; d += LANES) {
                const vfloat t = codes.grid.at(x + p * D, d, lanes_below(D - d));
                farthest = most(farthest, _mm512_abs_ps(t));
                const __m128i code = _mm_xor_si128(_mm512_cvtepi32_epi8(encode(t)), middle);
                *(__m128i*)(rows.data + p * width + d) = code;
                spread(code, lanes.data + d / STEP * TILE + p, TILE, codes.steps - d / STEP);
            }
            encode.finish(norm + p, rest + p);
        }
        reach(_mm512_reduce_max_ps(farthest));
        return unit;
    }

    // Sums of products start from -|c'|^2 / (2 s_x s_c).
    void prepare(float per_product) {
        for (int64_t k = 0; k < codes.K; k += LANES) {
            const vfloat half = *(const vfloat*)(codes.half.data + k) * per_product;
            const __m512i whole = _mm512_cvtps_epi32(least(half, broadcast(0.5f * EVERYTHING)));
            const __m512i sum = _mm512_load_si512(codes.sum.data + k);
            *(vint*)(start.data + k) = -(vint)whole - (vint)sum;
        }
    }

    // What scores at least must be. T is twice the bound, with what float64 may round and underflow.
    void bound(const vint* best, float per_product) {
        const float c = codes.widest, d = (float)(codes.D + 4);
        const float underflow = (float)(codes.grid.scale * codes.grid.scale * 0x1p-1070);
        for (int v = 0; v < POINT_VECTORS; ++v) {
            const vfloat t = _mm512_sqrt_ps(((const vfloat*)norm)[v]);
            const vfloat r = _mm512_sqrt_ps(((const vfloat*)rest)[v]) * (1.0f + SLACK) + SLACK * t;
            const vfloat canonical = d * (2.4f * 0x1p-53f * (t + c) * (t + c) + underflow);
            const vfloat off = 2.0f * ((t + r) * codes.rest + r * c) + SLACK * c * c + canonical;
            const vfloat T = off * (1.001f * per_product) + 2.0f;
            const __m512i most = _mm512_cvtps_epi32(T < EVERYTHING ? T : broadcast(EVERYTHING));
            ((vint*)limit)[v] = best[v] - (vint)most;
        }
    }

    // The pairs of a point and a centroid that may be its nearest; -1 if they are too many.
    int64_t pairs_left(int64_t n) {
        const uint64_t there = n == TILE ? ~0ull : (1ull << n) - 1;
        int64_t found = 0;
        for (int64_t g = 0; g < codes.groups && found <= most_pairs; ++g) {
            const __m512i *here = (const __m512i*)(score.data + g * TILE), *least = (const __m512i*)limit;
            uint64_t which = 0;
            for (int v = 0; v < POINT_VECTORS; ++v)
                which |= (uint64_t)_mm512_cmpge_epi32_mask(here[v], least[v]) << v * LANES;
            for (which &= there; which; which &= which - 1) {
                const int p = __builtin_ctzll(which);
                for (unsigned four = in_group(p, g); four; four &= four - 1) {
                    point.data[found] = p;
                    centroid.data[found++] = (int32_t)(g * GROUP) + __builtin_ctz(four);
                }
            }
        }
        return found <= most_pairs ? found : -1;
    }

    // Which of a group's centroids can be the nearest of a point.
    __mmask8 in_group(int32_t p, int64_t g) const {
        const __m512i each = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
        const int8_t* c = codes.code.data + g * GROUP * codes.width;
        const uint8_t* x = rows.data + p * codes.width;
        __m512i sum = _mm512_zextsi128_si512(*(const __m128i*)(start.data + g * GROUP));
        for (int64_t d = 0; d < codes.width; d += LANES) {
            const __m512i four = _mm512_castsi128_si512(*(const __m128i*)(x + d));
            sum = _mm512_dpbusd_epi32(sum, _mm512_permutexvar_epi32(each, four), *(const __m512i*)(c + d * GROUP));
        }
        const __m256i two = _mm256_add_epi32(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
        const __m128i one = _mm_add_epi32(_mm256_castsi256_si128(two), _mm256_extracti128_si256(two, 1));
        const __mmask8 there = (__mmask8)lanes_below(codes.K - g * GROUP);
        return _mm_mask_cmpge_epi32_mask(there, one, _mm_set1_epi32(limit[p]));
    }
};

// Eight rows of a square become its columns.
inline void transpose8(vdouble* v) {
    vdouble a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm512_unpacklo_pd(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_pd(v[i], v[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; ++j) {
            b[i + j] = _mm512_shuffle_f64x2(a[i + j], a[i + j + 2], 0x88);
            b[i + j + 2] = _mm512_shuffle_f64x2(a[i + j], a[i + j + 2], 0xdd);
        }
    for (int j = 0; j < 4; ++j) {
        v[j] = _mm512_shuffle_f64x2(b[j], b[j + 4], 0x88);
        v[j + 4] = _mm512_shuffle_f64x2(b[j], b[j + 4], 0xdd);
    }
}

// Canonical distances of eight pairs: squares features across lanes, added up pairs across lanes.
template <typename X>
vdouble distances8(const X* x, const Codes& codes, const int32_t* point, const int32_t* centroid) {
    const int64_t D = codes.D;
    vdouble total = {};
    for (int64_t d = 0; d < D; d += 8) {
        const __mmask16 here = lanes_below(D - d);
        vdouble square[8];
        for (int i = 0; i < 8; ++i) {
            const vdouble difference = load8(x + point[i] * D + d, here) - load8(codes.C + centroid[i] * D + d, here);
            square[i] = difference * difference;
        }
        transpose8(square);
        for (int i = 0; i < 8; ++i) total += square[i];
    }
    return total;
}

// The nearest centroids of a tile; false if too many would have to be compared.
template <typename X>
bool assign_by_codes(const X* x, int64_t n, CodedTile& tile, Nearest* nearest) {
    const float per_product = 1.0f / (tile.load(x, n) * tile.codes.unit);
    tile.prepare(per_product);
    vint best[POINT_VECTORS];
    multiply(tile.lanes.data, tile.codes, tile.start.data, tile.score.data, best);
    tile.bound(best, per_product);
    const int64_t found = tile.pairs_left(n);
    if (found < 0) return false;
    int32_t *point = tile.point.data, *centroid = tile.centroid.data;
    for (int64_t i = found; i < rounded_up(found, 8); ++i) point[i] = point[0], centroid[i] = centroid[0];
    for (int64_t p = 0; p < n; ++p) nearest[p] = {0, INFINITY};
    for (int64_t i = 0; i < found; i += 8) {
        const vdouble sqdist = distances8(x, tile.codes, point + i, centroid + i);
        for (int j = 0; j < 8; ++j) {
            Nearest& before = nearest[point[i + j]];
            if (sqdist[j] < before.sqdist) before = {centroid[i + j], sqdist[j]};
        }
    }
    return true;
}

}  // namespace

#endif
