/* Convolutions by Winograd's minimal filtering (Lavin and Gray, Fast Algorithms for Convolutional
   Neural Networks, CVPR 2016), tiles of 4 x 4 pixels at a time. One dimension of a tile is taken for the
   values of polynomials at 0, +-NEAR, +-FAR and infinity, where one product each does what taps do
   together: 36 for a tile of a 3 x 3 kernel instead of 144.

   SAME has stride 1. UP is transposed, 4 x 4 with stride 2: four kernels, one for each of 2 x 2 pixels,
   of two of three taps a dimension, so that at 0 or at infinity nothing is to be multiplied. DOWN has
   stride 2: four pictures, of every second pixel, of which the odd ones (from -1 on) meet two taps of a
   dimension and the even ones one; that leaves out 0, and for even ones infinity.

   Included once for each kind of element and of processor: VARIANT(f) is f with both behind it, TARGET
   the processor, VEC a vector of LANES floats, MOST_ROWS and MOST_VECTORS what a product keeps in
   registers, FACTOR what is multiplied: PACKED floats, or pairs of bfloat16. */

PART VEC VARIANT(load)(const ELEMENT *from) {
#if ELEMENT_IS_BFLOAT16 /* by name: compilers take four steps for it */
    h16 bits;
    memcpy(&bits, from, sizeof bits);
    return (v16)_mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i)bits), 16);
#else
    VEC value;
    memcpy(&value, from, sizeof value);
    return value;
#endif
}

PART void VARIANT(store)(ELEMENT *to, VEC value) {
#if ELEMENT_IS_BFLOAT16
    const __m256bh half = _mm512_cvtneps_pbh((__m512)value);
    memcpy(to, &half, sizeof half);
#else
    memcpy(to, &value, sizeof value);
#endif
}

PART VEC VARIANT(larger)(VEC a, VEC b) {
#if LANES == 16
    return (VEC)_mm512_max_ps((__m512)a, (__m512)b);
#else
    const __typeof__(a > b) is_first = a > b;
    return (VEC)((is_first & (__typeof__(is_first))a) | (~is_first & (__typeof__(is_first))b));
#endif
}

PART VEC VARIANT(end)(VEC a, VEC b, VEC c) {
    return c + NEAR * NEAR * FAR * FAR * a - (NEAR * NEAR + FAR * FAR) * b;
}

/* One dimension: 6 values at 0, four points and infinity; 5 without 0; 4 without infinity as well. */
PART void VARIANT(evaluate)(const VEC *d, const int count, VEC *at) {
    if (count == 6) *at++ = VARIANT(end)(d[0], d[2], d[4]), d++;
    const VEC near0 = NEAR * (d[2] - FAR * FAR * d[0]), near1 = d[3] - FAR * FAR * d[1];
    const VEC far0 = FAR * (d[2] - NEAR * NEAR * d[0]), far1 = d[3] - NEAR * NEAR * d[1];
    at[0] = near1 + near0;
    at[1] = near1 - near0;
    at[2] = far1 + far0;
    at[3] = far1 - far0;
    if (count > 4) at[4] = VARIANT(end)(d[0], d[2], d[4]);
}

/* One dimension: products, of which SAME and UP have one at 0, become four pixels. */
PART void VARIANT(interpolate)(const VEC *at, const int places, VEC *y) {
    const VEC *m = at + (places == 6);
    const VEC near0 = m[0] + m[1], near1 = NEAR * (m[0] - m[1]);
    const VEC far0 = m[2] + m[3], far1 = FAR * (m[2] - m[3]);
    y[0] = places == 6 ? *at + near0 + far0 : near0 + far0;
    y[1] = near1 + far1;
    y[2] = NEAR * NEAR * near0 + FAR * FAR * far0;
    y[3] = NEAR * NEAR * near1 + FAR * FAR * far1 + m[4];
}

/* LANES channels of a tile at all places, `places` a dimension, `step` factors apart. Of the picture
   rows and columns of which every `each`th counts. */
PART void VARIANT(tile)(const ELEMENT *const *from, ptrdiff_t left, ptrdiff_t pixel, const int each, const int rows,
                        const int columns, const int places, FACTOR *to, ptrdiff_t step) {
    VEC lines[36], d[6], at[6];
#pragma GCC unroll 6
    for (int j = 0; j < columns; j++, left += each * pixel) {
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) d[i] = VARIANT(load)(from[each * i] + left);
        VARIANT(evaluate)(d, rows, at);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) lines[6 * i + j] = at[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++, to += places * step) {
        FACTOR *place = to;
        VARIANT(evaluate)(lines + 6 * i, columns, at);
#pragma GCC unroll 6
        for (int j = 0; j < columns; j++, place += step) VARIANT(store)(place, at[j]);
    }
}

/* One product: `rows` tiles times `vectors` vectors of outputs, over `channels`. */
PART void VARIANT(multiply)(const FACTOR *tiles, ptrdiff_t next, const FACTOR *weight, int channels, float *to,
                            ptrdiff_t stride, const int rows, const int vectors) {
    VEC sum[MOST_ROWS][MOST_VECTORS] = {0};
    for (int c = 0; c < channels; c += PACKED) {
        VEC w[MOST_VECTORS];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++)
            memcpy(w + v, weight + ((ptrdiff_t)c * vectors + v * PACKED) * LANES, sizeof *w);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
            for (int v = 0; v < vectors; v++) {
#if PACKED == 2
                int32_t pair;
                memcpy(&pair, tiles + r * next + c, sizeof pair);
                sum[r][v] = (VEC)_mm512_dpbf16_ps((__m512)sum[r][v],
                                                  (__m512bh)_mm512_set1_epi32(pair), (__m512bh)w[v]);
#else
                sum[r][v] += tiles[r * next + c] * w[v];
#endif
            }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++)
            memcpy(to + r * stride + v * LANES, sum[r] + v, sizeof **sum);
}

/* How many vectors of outputs are worked on at a time. */
INLINE int VARIANT(vectors)(int outputs) {
#if LANES == 16
    const int all = rounded(outputs, LANES) / LANES;
    return all % 6 == 0 ? 6 : all % 4 == 0 ? 4 : all % 3 == 0 ? 3 : 2;
#else
    return MOST_VECTORS;
#endif
}

#define MULTIPLY(rows, vectors)                                                            \
    for (int t = 0; t < count; t += rows)                                                  \
    VARIANT(multiply)(tiles + t * next, next, weight, channels, to + t * stride, stride, rows, vectors)

/* All products of `count` tiles; to be found at place, tile, output. */
PART void VARIANT(products)(const struct convolution *conv, const FACTOR *factors, float *products,
                            int count) {
    const int vectors = VARIANT(vectors)(conv->outputs), block = vectors * LANES;
    const ptrdiff_t next = conv->channels * input_parts(conv), each = rounded(conv->outputs, block);
    const ptrdiff_t stride = each * output_parts(conv), step = spread(conv->most * next, sizeof *factors);
    const FACTOR *weight = conv->weight;
    for (int place = 0; place < places(conv) * places(conv); place++) {
        const struct range parts = parts_at(conv, place);
        const FACTOR *tiles = factors + place * step + parts.first * conv->channels;
        const int channels = (parts.last - parts.first) * conv->channels;
        for (ptrdiff_t k = 0; k < stride; k += block) {
            float *to = products + place * spread(conv->most * stride, sizeof *to) + k;
            if (is_nothing(conv, place, k / each)) {
                for (int t = 0; t < count; t++) memset(to + t * stride, 0, block * sizeof *to);
                continue;
            }
#if LANES == 16
            if (vectors == 6) MULTIPLY(4, 6);
            else if (vectors == 4) MULTIPLY(6, 4);
            else if (vectors == 3) MULTIPLY(8, 3);
            else MULTIPLY(12, 2);
#else
            MULTIPLY(MOST_ROWS, MOST_VECTORS);
#endif
            weight += (ptrdiff_t)channels * block;
        }
    }
}
#undef MULTIPLY

/* LANES channels of a tile's pixels: bias, what is added, leaky ReLU. `part`: which of 2 x 2. */
PART void VARIANT(pixels)(const struct convolution *conv, const float *products, ptrdiff_t step, int top,
                          int left, int part, int k, const int places) {
    VEC lines[24], at[6], y[4], bias;
    memcpy(&bias, conv->bias + k, sizeof bias);
#pragma GCC unroll 6
    for (int j = 0; j < places; j++, products += step) {
        const float *place = products;
#pragma GCC unroll 6
        for (int i = 0; i < places; i++, place += places * step) memcpy(at + i, place, sizeof *at);
        VARIANT(interpolate)(at, places, y);
#pragma GCC unroll 6
        for (int i = 0; i < 4; i++) lines[6 * i + j] = y[i];
    }
    const int parts = conv->kind == UP ? 2 : 1, outputs = conv->outputs;
    const int rows = smaller(4, grid(conv, conv->height) - top);
    const int columns = smaller(4, grid(conv, conv->width) - left);
    const ptrdiff_t line = (ptrdiff_t)grid(conv, conv->width) * parts;
    for (int i = 0; i < rows; i++) {
        VARIANT(interpolate)(lines + 6 * i, places, y);
        const ptrdiff_t row = parts * (top + i) + part / 2, column = parts * left + part % 2;
        for (int j = 0; j < columns; j++) {
            VEC value = y[j] + bias;
            const ptrdiff_t place = (row * line + column + parts * j) * outputs + k;
            if (conv->is_residual) value += VARIANT(load)((const ELEMENT *)conv->x + place);
            VARIANT(store)((ELEMENT *)conv->out + place, VARIANT(larger)(value, conv->slope * value));
        }
    }
}

/* The rows a tile reads, `span` of as many pixels: where they lie, or copied to `patch` with zeros
   around the picture. */
PART void VARIANT(find)(const struct convolution *conv, int top, int left, int span, ELEMENT *patch,
                        const ELEMENT **rows) {
    const ptrdiff_t channels = conv->channels, line = conv->width * channels;
    const ELEMENT *x = (const ELEMENT *)conv->x + top * line + left * channels;
    if (top >= 0 && left >= 0 && top + span <= conv->height && left + span <= conv->width) {
        for (int i = 0; i < span; i++) rows[i] = x + i * line;
        return;
    }
    memset(patch, 0, span * span * channels * sizeof *patch);
    const int first = left < 0 ? -left : 0, last = smaller(span, conv->width - left);
    for (int i = 0; i < span; i++) {
        rows[i] = patch + i * span * channels;
        if (top + i >= 0 && top + i < conv->height)
            memcpy(patch + (i * span + first) * channels, x + i * line + first * channels,
                   (last - first) * channels * sizeof *patch);
    }
}

/* The first channel of each vector; the last vector may share some with the one before. */
#define EACH_VECTOR(k, count)                                                              \
    for (int k##0 = 0, k; k = smaller(k##0, (count)-LANES), k##0 < (count); k##0 += LANES)

/* Piece `number` of a convolution: `most` tiles. */
TARGET static void VARIANT(convolve)(const struct convolution *conv, int number, char *scratch) {
    const int across = (grid(conv, conv->width) + 3) / 4, all = count_tiles(conv);
    const int first = number * conv->most, count = smaller(conv->most, all - first);
    const ptrdiff_t stride = rounded(conv->outputs, VARIANT(vectors)(conv->outputs) * LANES) * output_parts(conv);
    const ptrdiff_t next = conv->channels * input_parts(conv), pixel = conv->channels;
    const int span = conv->kind == DOWN ? 9 : 6, size = conv->kind == DOWN ? 8 : 4;
    const ptrdiff_t all_places = places(conv) * places(conv), step = spread(conv->most * next, sizeof(FACTOR));
    const ptrdiff_t product_step = spread(conv->most * stride, sizeof(float));
    float *products = (float *)scratch;
    FACTOR *factors = (FACTOR *)(products + all_places * product_step);
    ELEMENT *patch = (ELEMENT *)(factors + all_places * step);
    for (int t = 0; t < count; t++) {
        const int top = (first + t) / across * size - 1, left = (first + t) % across * size - 1;
        const ELEMENT *rows[9], *from[9];
        VARIANT(find)(conv, top, left, span, patch, rows);
        EACH_VECTOR(c, conv->channels) {
            FACTOR *to = factors + t * next + c;
            for (int i = 0; i < span; i++) from[i] = rows[i] + c;
            if (conv->kind != DOWN) {
                VARIANT(tile)(from, 0, pixel, 1, 6, 6, 6, to, step);
                continue;
            } /* in the order of parts_at */
            VARIANT(tile)(from + 1, pixel, pixel, 2, 4, 4, 5, to, step);
            VARIANT(tile)(from, pixel, pixel, 2, 5, 4, 5, to + pixel, step);
            VARIANT(tile)(from, 0, pixel, 2, 5, 5, 5, to + 2 * pixel, step);
            VARIANT(tile)(from + 1, 0, pixel, 2, 4, 5, 5, to + 3 * pixel, step);
        }
    }
    VARIANT(products)(conv, factors, products, count);
    for (int t = 0; t < count; t++)
        for (int part = 0; part < output_parts(conv); part++)
            EACH_VECTOR(k, conv->outputs) {
                const float *at = products + t * stride + part * (stride / output_parts(conv)) + k;
                const int top = (first + t) / across * 4, left = (first + t) % across * 4;
                if (conv->kind == DOWN)
                    VARIANT(pixels)(conv, at, product_step, top, left, part, k, 5);
                else VARIANT(pixels)(conv, at, product_step, top, left, part, k, 6);
            }
}
#undef EACH_VECTOR
