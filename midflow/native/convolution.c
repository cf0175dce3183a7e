/* Convolutions by winograd.h: which of its variants runs, and in what pieces. */

#include "vectors.h"

#define NEAR 0.625f
#define FAR 1.5f
#define CACHED (384 << 10) /* bytes of factors and products at a time */

enum { SAME, UP, DOWN };

/* A convolution of a picture (height, width, channels) to `outputs` channels, at the same size, twice
   the size or half of it; midflow/native/winograd.py fills the same. */
struct convolution {
    int32_t kind, height, width, channels, outputs;
    int32_t is_bfloat16, is_residual;
    float slope; /* of the leaky ReLU, at most 1; 1: none */
    const void *x, *weight;
    const float *bias;
    void *out;
    char *scratch; /* of every thread */
    /* what `midflow_plan_convolution` says: bytes of a thread's scratch and of the packed kernel, and
       how many tiles are worked on at a time */
    int64_t scratch_size, weight_size;
    int32_t most;
};

INLINE int rounded(int count, int multiple) { return (count + multiple - 1) / multiple * multiple; }

/* So many values of `size` bytes, and some more so that what lies as far apart meets in no cache line's
   place: an odd number of lines. */
INLINE ptrdiff_t spread(ptrdiff_t count, ptrdiff_t size) { return ((count * size + 63) / 64 | 1) * 64 / size; }

/* How many values of polynomials are multiplied, in a dimension. */
INLINE int places(const struct convolution *conv) { return conv->kind == DOWN ? 5 : 6; }

INLINE int input_parts(const struct convolution *conv) { return conv->kind == DOWN ? 4 : 1; }

INLINE int output_parts(const struct convolution *conv) { return conv->kind == UP ? 4 : 1; }

/* What tiles cover: the side of the output, of UP the side of each of its parts. */
INLINE int grid(const struct convolution *conv, int side) {
    return conv->kind == DOWN ? (side + 1) / 2 : side;
}

INLINE int count_tiles(const struct convolution *conv) {
    return (grid(conv, conv->height) + 3) / 4 * ((grid(conv, conv->width) + 3) / 4);
}

struct range {
    int first, last;
};

/* DOWN's parts are rows and columns even and even, odd and even, odd and odd, even and odd: so lie side
   by side those that are not nothing at a place. */
INLINE struct range parts_at(const struct convolution *conv, int place) {
    const int is_row = conv->kind == DOWN && place / 5 == 4, is_column = conv->kind == DOWN && place % 5 == 4;
    return (struct range){is_column ? 2 : is_row, is_row ? 3 : input_parts(conv)};
}

/* Whether a part of UP multiplies nothing at a place. */
INLINE int is_nothing(const struct convolution *conv, int place, int part) {
    return conv->kind == UP && (place / 6 == (part / 2 ? 0 : 5) || place % 6 == (part % 2 ? 0 : 5));
}

/* A tap's share in a kernel's value at a place, one dimension. */
static double share_of(int places, int place, int tap) {
    const double points[] = {NEAR, -NEAR, FAR, -FAR}, near = NEAR * NEAR, far = FAR * FAR;
    if (places == 6 && place-- == 0) return tap ? 0 : 1 / (near * far);
    if (place == 4) return tap == places - 4;
    const double x = points[place], others = 2 * x * (place < 2 ? near - far : far - near);
    return pow(x, tap) / (places == 6 ? x * others : others);
}

/* The value at a place of the kernel between a channel of an input's part and one of an output's.
   `kernel` is laid out as torch does. */
static float kernel_at(const struct convolution *conv, const float *kernel, const double shares[6][3],
                       int place, int out_part, int k, int in_part, int c) {
    static const int of_up[2][3] = {{3, 1, -1}, {-1, 2, 0}}, of_down[2][3] = {{1, -1, -1}, {0, 2, -1}};
    static const int of_same[3] = {0, 1, 2};
    const int side = conv->kind == UP ? 4 : 3, each = places(conv);
    const ptrdiff_t number = conv->kind == UP ? (ptrdiff_t)c * conv->outputs + k : (ptrdiff_t)k * conv->channels + c;
    const int *down = of_same, *across = of_same;
    if (conv->kind == UP) down = of_up[out_part / 2], across = of_up[out_part % 2];
    if (conv->kind == DOWN) down = of_down[in_part == 1 || in_part == 2], across = of_down[in_part >= 2];
    double sum = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++)
            if (down[i] >= 0 && across[j] >= 0)
                sum += shares[place / each][i] * shares[place % each][j]
                     * kernel[(number * side + down[i]) * side + across[j]];
    return sum;
}

#define PART TARGET INLINE
#define ELEMENT_IS_BFLOAT16 0
#include "elements.h"
#define FACTOR float
#define PACKED 1

#define VEC v8
#define LANES 8
#define MOST_ROWS 6
#define MOST_VECTORS 2
#define VARIANT(f) f##_any
#define TARGET
#include "winograd.h"
#undef VARIANT
#undef TARGET

#if defined(__x86_64__)
#include <immintrin.h>
#define VARIANT(f) f##_avx2
#define TARGET FOR_AVX2
#include "winograd.h"
#undef VARIANT
#undef TARGET

#undef VEC
#undef LANES
#undef MOST_ROWS
#undef MOST_VECTORS
#define VEC v16
#define LANES 16
#define MOST_ROWS 12
#define MOST_VECTORS 6
#define VARIANT(f) f##_avx512
#define TARGET FOR_AVX512
#include "winograd.h"
#undef VARIANT
#undef TARGET

#undef ELEMENT_IS_BFLOAT16
#undef FACTOR
#undef PACKED
#define ELEMENT_IS_BFLOAT16 1
#include "elements.h"
#define FACTOR uint16_t
#define PACKED 2
#define VARIANT(f) f##_avx512_bfloat16
#define TARGET FOR_AVX512_BFLOAT16
#include "winograd.h"
#endif

struct variant {
    void (*convolve)(const struct convolution *, int, char *);
    int (*vectors)(int);
    int lanes, products, size; /* products: vectors of sums kept at a time; size: of a factor */
};

/* The one for this processor; NULL where there is none. */
static const struct variant *find_variant(int is_bfloat16) {
    static const struct variant any = {convolve_any, vectors_any, 8, 12, 4};
#if defined(__x86_64__)
    static const struct variant avx2 = {convolve_avx2, vectors_avx2, 8, 12, 4};
    static const struct variant avx512 = {convolve_avx512, vectors_avx512, 16, 24, 4};
    static const struct variant half = {
        convolve_avx512_bfloat16, vectors_avx512_bfloat16, 16, 24, 2};
    const int processor = midflow_processor();
    if (is_bfloat16) return processor == AVX512_BFLOAT16 ? &half : NULL;
    if (processor >= AVX512) return &avx512;
    if (processor == AVX2) return &avx2;
#endif
    return is_bfloat16 ? NULL : &any;
}

/* Channels that an input and an output must have at least; 0 where there is no such convolution. */
int midflow_fewest_channels(int is_bfloat16) {
    const struct variant *variant = find_variant(is_bfloat16);
    return variant ? variant->lanes : 0;
}

/* As many tiles at a time as the caches hold, and the same for all threads. */
void midflow_plan_convolution(struct convolution *conv, int threads) {
    const struct variant *variant = find_variant(conv->is_bfloat16);
    const int vectors = variant->vectors(conv->outputs), rows = variant->products / vectors;
    const int64_t all = places(conv) * places(conv), inputs = conv->channels * input_parts(conv);
    const int64_t outputs = rounded(conv->outputs, vectors * variant->lanes) * output_parts(conv);
    const int64_t tile = all * (inputs * variant->size + outputs * sizeof(float));
    const int tiles = count_tiles(conv), fit = CACHED / tile > rows ? CACHED / tile : rows;
    const int pieces = rounded(tiles, fit * threads) / fit;
    conv->most = rounded((tiles + pieces - 1) / pieces, rows);
    conv->weight_size = all * inputs * outputs * variant->size;
    conv->scratch_size = all * (spread(conv->most * inputs, variant->size) * variant->size
                                + spread(conv->most * outputs, sizeof(float)) * sizeof(float))
                       + spread(81 * conv->channels, sizeof(float)) * sizeof(float);
}

/* Packs a kernel, in the order in which its products are made, into what the plan says it takes. */
void midflow_pack_kernel(const struct convolution *conv, const float *kernel, void *to) {
    const struct variant *variant = find_variant(conv->is_bfloat16);
    const int block = variant->vectors(conv->outputs) * variant->lanes, packed = conv->is_bfloat16 ? 2 : 1;
    float *plain = to;
    uint16_t *half = to;
    double shares[6][3];
    for (int place = 0; place < places(conv); place++)
        for (int tap = 0; tap < 3; tap++) shares[place][tap] = share_of(places(conv), place, tap);
    for (int place = 0; place < places(conv) * places(conv); place++)
        for (int part = 0; part < output_parts(conv); part++)
            for (int k = 0; k < conv->outputs && !is_nothing(conv, place, part); k += block) {
                const struct range parts = parts_at(conv, place);
                const int first = parts.first * conv->channels, last = parts.last * conv->channels;
                for (int c = first; c < last; c += packed)
                    for (int lane = k; lane < k + block; lane++)
                        for (int input = c; input < c + packed; input++) {
                            const float value = lane < conv->outputs
                                ? kernel_at(conv, kernel, shares, place, part, lane,
                                            input / conv->channels, input % conv->channels)
                                : 0;
                            uint32_t bits;
                            memcpy(&bits, &value, sizeof bits);
                            if (conv->is_bfloat16) *half++ = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
                            else *plain++ = value;
                        }
            }
}

static void run_pieces(const void *work, int first, int last, int thread) {
    const struct convolution *conv = work;
    const struct variant *variant = find_variant(conv->is_bfloat16);
    for (int piece = first; piece < last; piece++)
        variant->convolve(conv, piece, conv->scratch + thread * conv->scratch_size);
}

/* Runs a convolution that was planned for so many threads. */
void midflow_convolve(const struct convolution *conv, int threads) {
    const int pieces = (count_tiles(conv) + conv->most - 1) / conv->most;
    midflow_share(run_pieces, conv, pieces, 1, pieces < threads ? pieces : threads);
}

int midflow_convolution_size(void) { return sizeof(struct convolution); }
