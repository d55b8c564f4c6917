// Nearest centroids by products of int8 codes, which rule out nearly all centroids; float64 compares
// the rest.
//
// The processor multiplies four times as many bytes as floats per instruction. Points and centroids
// are shifted and scaled as for float32 (nearest.hpp) to x' and c', and rounded to int8 codes q with
// remainders r: x' = s_x q_x + r_x, c' = s_c q_c + r_c. Then
//
//     x'.c' = s_x s_c q_x.q_c + e,    |e| <= |s_x q_x| |r_c| + |r_x| |c'|     (Cauchy, Schwarz)
//
// with the measured norms of the remainders, so a point beyond the range of the codes only has a
// larger bound. A centroid can be the nearest only if q_x.q_c - |c'|^2 / (2 s_x s_c) is within twice
// that bound of the largest. These few centroids are compared by canonical distances. Tiles with too
// many of them, and some of the following tiles, use float32 instead.
#pragma once

#include "int8_codes.hpp"

#if defined(__AVX512VNNI__)

namespace {

// In every lane, add four products to `sum`. With the intrinsic, GCC copies all sums.
inline void add_products(__m512i& sum, __m512i points, __m512i centroid) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(points), "v"(centroid));
}

// The scores of all groups, and the largest of each point. This is a separate function, so that the
// compiler has registers for all sums.
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

// The codes of a tile of points, and the pairs found for it.
struct CodedTile {
    const Codes& codes;
    int64_t most_pairs;       // more pairs would take as long as float32
    float extent;             // range of the codes: that of the latest points
    Buffer<uint8_t> rows;     // (TILE, width)
    Buffer<int32_t> lanes;    // (width / STEP, TILE), four codes each
    Buffer<int32_t> start;    // (K,): initial values of the sums of products
    Buffer<int32_t> score;    // (groups, TILE): the largest of each group
    Buffer<int32_t> point, centroid;  // pairs that remain
    alignas(64) float norm[TILE], rest[TILE];
    alignas(64) int32_t limit[TILE];  // centroids of lower scores are ruled out

    CodedTile(const Codes& codes)
        : codes(codes), most_pairs(codes.usable ? TILE + 5 * codes.K * codes.D / (codes.D + 50) : 0), extent(0),
          rows(codes.usable ? TILE * codes.width : 0), lanes(codes.usable ? TILE * codes.width / STEP : 0),
          start(codes.usable ? rounded_up(codes.K, LANES) : 0), score(codes.usable ? codes.groups * TILE : 0),
          point(most_pairs + GROUP * TILE), centroid(most_pairs + GROUP * TILE) {}

    bool ok() const {
        return rows.ok() && lanes.ok() && start.ok() && score.ok() && point.ok() &&
               centroid.ok();
    }

    // The range of the codes for these points: 1/4 to 4 times that of the centroids.
    void reach(float farthest) {
        farthest = farthest < 4.0f * codes.reach ? farthest : 4.0f * codes.reach;
        extent = farthest > 0.25f * codes.reach ? farthest : 0.25f * codes.reach;
    }

    template <typename X>
    void look(const X* x, int64_t n) {
        const Origin origin = codes.grid.origin();
        vfloat farthest = {};
        for (int64_t p = 0; p < n; ++p)
            for (int64_t d = 0; d < codes.width; d += LANES)
                farthest = most(farthest, _mm512_abs_ps(origin.at(x + p * codes.D, d, lanes_below(codes.D - d))));
        reach(_mm512_reduce_max_ps(farthest));
    }

    // Compute the codes of n points. Returns the scale s_x.
    template <typename X>
    float load(const X* x, int64_t n) {
        if (extent == 0.0f) look(x, n);
        const int64_t D = codes.D, width = codes.width;
        const float unit = extent / FINEST;
        const __m128i middle = _mm_set1_epi8((char)128);
        vfloat farthest = {};
        for (int64_t p = 0; p < n; p += 4) {
            const X* row[4];
            for (int i = 0; i < 4; ++i) row[i] = x + (p + i < n ? p + i : p) * D;
            uint8_t* to = rows.data + p * width;
            int32_t* lane = lanes.data + p;
            Encoder encode(codes.grid, unit);
            for (int64_t d = 0; d < width; d += LANES, lane += 4 * TILE) {
                const __mmask16 here = lanes_below(D - d);
                __m128i bytes[4];
                for (int i = 0; i < 4; ++i) {
                    bytes[i] = _mm_xor_si128(_mm512_cvtepi32_epi8(encode(i, row[i], d, here)), middle);
                    *(__m128i*)(to + i * width + d) = bytes[i];
                }
                spread(bytes, lane, TILE);
            }
            *(__m128*)(norm + p) = sums4(encode.squares);
            *(__m128*)(rest + p) = sums4(encode.rests);
            farthest = most(farthest, encode.farthest);
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

    // The least score of candidates. T is twice the bound, plus rounding and underflow of float64.
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

    // List the pairs of a point and a possible nearest centroid; -1 if they are too many.
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

    // The centroids of a group that can be the nearest of a point.
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

// Canonical distances of eight pairs: squares with features across lanes, sums with pairs across lanes.
template <typename X>
vdouble distances8(const X* x, const Codes& codes, const int32_t* point, const int32_t* centroid) {
    const int64_t D = codes.D;
    const X* from[8];
    const double* to[8];
    for (int i = 0; i < 8; ++i) from[i] = x + point[i] * D, to[i] = codes.C + centroid[i] * D;
    vdouble total = {};
    for (int64_t d = 0; d < D; d += 8) {
        const __mmask16 here = lanes_below(D - d);
        vdouble square[8];
        for (int i = 0; i < 8; ++i) {
            const vdouble difference = load8(from[i] + d, here) - load8(to[i] + d, here);
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
