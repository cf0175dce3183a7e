/* What convolutions read and write, as ELEMENT: float, or bfloat16 as its upper 16 bits. Included
   once for each; NAME(f) is f with the type behind it. */

#if ELEMENT_IS_BFLOAT16
#define ELEMENT uint16_t
#define NAME(f) f##_bfloat16
#else
#define ELEMENT float
#define NAME(f) f##_float32
#endif

INLINE v8 NAME(load8)(const ELEMENT *from) {
#if ELEMENT_IS_BFLOAT16
    h8 bits;
    memcpy(&bits, from, sizeof bits);
    return (v8)(__builtin_convertvector(bits, u8x) << 16);
#else
    v8 value;
    memcpy(&value, from, sizeof value);
    return value;
#endif
}

INLINE v16 NAME(load16)(const ELEMENT *from) {
#if ELEMENT_IS_BFLOAT16
    h16 bits;
    memcpy(&bits, from, sizeof bits);
    return (v16)(__builtin_convertvector(bits, u16x) << 16);
#else
    v16 value;
    memcpy(&value, from, sizeof value);
    return value;
#endif
}

/* To the nearest, ties to even. */
INLINE void NAME(store8)(ELEMENT *to, v8 value) {
#if ELEMENT_IS_BFLOAT16
    u8x bits = (u8x)value;
    h8 upper = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, h8);
    memcpy(to, &upper, sizeof upper);
#else
    memcpy(to, &value, sizeof value);
#endif
}

INLINE void NAME(store16)(ELEMENT *to, v16 value) {
#if ELEMENT_IS_BFLOAT16
    u16x bits = (u16x)value;
    h16 upper = __builtin_convertvector((bits + 0x7fff + ((bits >> 16) & 1)) >> 16, h16);
    memcpy(to, &upper, sizeof upper);
#else
    memcpy(to, &value, sizeof value);
#endif
}

/* Planar (3, H, W) to pixels: four floats, and what the encoder reads. */
KERNEL(NAME(interleave)) {
    const long plane = (long)job->height * job->width;
    for (long i = (long)first * job->width; i < (long)last * job->width; i++) {
        v8 pixel = {job->source[i], job->source[plane + i], job->source[2 * plane + i]};
        memcpy(job->picture0 + 4 * i, &pixel, 16);
        ELEMENT packed[8];
        NAME(store8)(packed, pixel);
        memcpy((ELEMENT *)job->x + 4 * i, packed, 4 * sizeof(ELEMENT));
    }
}

/* A picture of twice the size to pixels of means. */
KERNEL(NAME(halve)) {
    const long row = 8L * job->width;
    for (int y = first; y < last; y++)
        for (int x = 0; x < job->width; x++) {
            const float *from = job->source + 2 * y * row + 8 * x;
            v4 mean = 0.25f * (load4(from) + load4(from + 4) + load4(from + row) + load4(from + row + 4));
            const long i = (long)y * job->width + x;
            memcpy(job->picture0 + 4 * i, &mean, 16);
            v8 wide = {mean[0], mean[1], mean[2]};
            ELEMENT packed[8];
            NAME(store8)(packed, wide);
            memcpy((ELEMENT *)job->x + 4 * i, packed, 4 * sizeof(ELEMENT));
        }
}

/* Warped features of one frame, and its warped picture, for one pixel: `width` and 8 elements. */
INLINE void NAME(view)(const struct job *job, const ELEMENT *features, const float *planes,
                       struct place place, long i, ELEMENT *view) {
    const long size = (long)job->height * job->width, wide = job->encoder_width;
    const ELEMENT *top = features + (long)place.top * job->width * wide;
    const ELEMENT *bottom = features + (long)place.bottom * job->width * wide;
    const long left = place.left * wide, right = place.right * wide;
    const float a = (1 - place.down) * (1 - place.across), b = (1 - place.down) * place.across;
    const float c = place.down * (1 - place.across), d = place.down * place.across;
    for (int k = 0; k < wide; k += 8)
        NAME(store8)(view + k, a * NAME(load8)(top + left + k) + b * NAME(load8)(top + right + k)
                                   + c * NAME(load8)(bottom + left + k)
                                   + d * NAME(load8)(bottom + right + k));
    v8 picture = {planes[i], planes[size + i], planes[2 * size + i]};
    NAME(store8)(view + wide, picture);
}

/* What the block of a level reads: both views, for the matcher apart and for the entrance together
   with what is known: features 0, features 1, then pictures 0 and 1, time, logit, carried features,
   flow, both pictures as they are, photometric step. */
KERNEL(NAME(level_inputs)) {
    const long size = (long)job->height * job->width;
    const int wide = job->encoder_width, carried = job->features;
    const int each = wide + 8;
    ELEMENT *x = job->x, *views = job->views;
    for (int y = first; y < last; y++) {
        struct line line = line_at(job, y);
        for (int column = 0; column < job->width; column++) {
            const long i = (long)y * job->width + column;
            const v16 state = job->previous ? state_at(job, line, column) : (v16){0};
            ELEMENT *view0 = views + i * each, *view1 = views + (size + i) * each;
            NAME(view)(job, job->features0, job->planes,
                       place_at(job, column + state[0], y + state[1]), i, view0);
            NAME(view)(job, job->features1, job->planes + 3 * size,
                       place_at(job, column + state[2], y + state[3]), i, view1);
            ELEMENT *to = x + i * job->x_channels;
            memcpy(to, view0, wide * sizeof(ELEMENT));
            memcpy(to + wide, view1, wide * sizeof(ELEMENT));
            float known[KNOWN] = {0};
            for (int k = 0; k < 6; k++) known[k] = job->planes[k * size + i];
            known[6] = job->time;
            for (int k = 0; k <= carried; k++) known[7 + k] = state[4 + k];
            for (int k = 0; k < 4; k++) known[8 + carried + k] = state[k];
            for (int k = 0; k < 3; k++) {
                known[12 + carried + k] = job->picture0[4 * i + k];
                known[15 + carried + k] = job->picture1[4 * i + k];
            }
            known[18 + carried] = job->missed[i];
            known[19 + carried] = job->missed[size + i];
            for (int k = 2 * wide; k < job->x_channels; k += 8) {
                v8 part;
                memcpy(&part, known + (k - 2 * wide), sizeof part);
                NAME(store8)(to + k, part);
            }
        }
    }
}

/* Matched planes of both views, less their mean and of length 1, into planes with a rim of zeros. */
KERNEL(NAME(normalize)) {
    const int count = job->matched, radius = job->radius;
    const long stride = job->width + 2 * radius + LANES;
    const long plane = (job->height + 2 * radius) * stride;
    for (int y = first; y < last; y++) {
        const int view = y >= job->height, row = y - view * job->height;
        const ELEMENT *from = (const ELEMENT *)job->x + (long)y * job->width * count;
        float *to = job->unit + view * count * plane + (row + radius) * stride + radius;
        for (int x = 0; x < job->width; x++, from += count) {
            float values[MOST_MATCHED], sum = 0, squares = 0;
            for (int k = 0; k < count; k += 8) {
                v8 part = NAME(load8)(from + k);
                memcpy(values + k, &part, sizeof part);
            }
            for (int k = 0; k < count; k++) sum += values[k];
            const float mean = sum / count;
            for (int k = 0; k < count; k++) {
                values[k] -= mean;
                squares += values[k] * values[k];
            }
            const float scale = 1 / fmaxf(sqrtf(squares), NORM_FLOOR);
            for (int k = 0; k < count; k++) to[k * plane + x] = values[k] * scale;
        }
    }
}

/* What merge reads: the entrance's output, then the likeness under every displacement. */
KERNEL(NAME(correlate)) {
    const int count = job->matched, radius = job->radius, side = 2 * radius + 1;
    const int channels = job->entrance_channels;
    const long stride = job->width + 2 * radius + LANES;
    const long plane = (job->height + 2 * radius) * stride;
    const float *unit0 = job->unit, *unit1 = job->unit + count * plane;
    for (int y = first; y < last; y++)
        for (int x = 0; x < job->width; x += LANES) {
            float likeness[LANES][MOST_LIKENESS] = {{0}};
            for (int dy = -radius; dy <= radius; dy++) {
                const float *row0 = unit0 + (y - dy + radius) * stride + x + radius;
                const float *row1 = unit1 + (y + dy + radius) * stride + x + radius;
                v16 sums[MOST_SIDE] = {{0}};
                for (int k = 0; k < count; k++)
                    for (int j = 0; j < MOST_SIDE; j++)
                        if (j < side) {
                            const int dx = radius - j;
                            sums[j] += load16f(row0 + k * plane - dx) * load16f(row1 + k * plane + dx);
                        }
                for (int j = 0; j < side; j++)
                    for (int lane = 0; lane < LANES; lane++) {
                        const float value = sums[j][lane];
                        likeness[lane][(dy + radius) * side + j] = value < 0 ? 0.2f * value : value;
                    }
            }
            for (int lane = 0; lane < LANES && x + lane < job->width; lane++) {
                const long i = (long)y * job->width + x + lane;
                ELEMENT *to = (ELEMENT *)job->merged + i * job->merged_channels;
                memcpy(to, (const ELEMENT *)job->x + i * channels, channels * sizeof(ELEMENT));
                for (int k = channels; k < job->merged_channels; k += 8) {
                    v8 part;
                    memcpy(&part, likeness[lane] + (k - channels), sizeof part);
                    NAME(store8)(to + k, part);
                }
            }
        }
}

/* The estimate after a level, from what its block found: flow, logit, features, one v16 a pixel. */
KERNEL(NAME(update)) {
    const long size = (long)job->height * job->width;
    for (int y = first; y < last; y++) {
        struct line line = line_at(job, y);
        for (int x = 0; x < job->width; x++) {
            const long i = (long)y * job->width + x;
            const long cell = (long)(y / 2) * (job->width / 2) + x / 2;
            v16 found = NAME(load16)((const ELEMENT *)job->out + (4 * cell + y % 2 * 2 + x % 2) * 16);
            const v16 before = job->previous ? state_at(job, line, x) : (v16){0};
            const float share = found[5 + job->features];
            const v4 step = both_ways(job, i, size, share);
            for (int k = 0; k < 4; k++) found[k] += before[k] + step[k];
            memcpy(job->state + 16 * i, &found, sizeof found);
        }
    }
}

/* What the last block reads of every 2 x 2 pixels: for each of them warped pictures, pictures and
   the photometric step; then the estimate at that size, and the time. */
KERNEL(NAME(detail_inputs)) {
    const int width = job->width; /* of the frame; rows are those of the half size */
    const long size = (long)job->height * width;
    for (int y = first; y < last; y++) {
        struct line line = line_at(job, y);
        for (int x = 0; x < width / 2; x++) {
            ELEMENT *to = (ELEMENT *)job->x + ((long)y * (width / 2) + x) * job->x_channels;
            for (int part = 0; part < 4; part++) {
                const long i = (2L * y + part / 2) * width + 2 * x + part % 2;
                v16 pixel = {0};
                for (int k = 0; k < 6; k++) pixel[k] = job->planes[k * size + i];
                for (int k = 0; k < 3; k++) {
                    pixel[6 + k] = job->picture0[4 * i + k];
                    pixel[9 + k] = job->picture1[4 * i + k];
                }
                pixel[12] = job->missed[i];
                pixel[13] = job->missed[size + i];
                NAME(store16)(to + 16 * part, pixel);
            }
            v16 state = state_at(job, line, x);
            state[15] = job->time;
            NAME(store16)(to + 64, state);
        }
    }
}

/* Corrects the estimate at full size, and reads and mixes both frames along it. */
KERNEL(NAME(paint)) {
    const int width = job->width;
    const long size = (long)job->height * width;
    for (int y = first; y < last; y++) {
        struct line line = line_at(job, y);
        for (int x = 0; x < width; x++) {
            const long i = (long)y * width + x;
            const v16 state = state_at(job, line, x);
            v8 level = {state[0], state[1], state[2], state[3], state[4]};
            if (job->out) {
                const long cell = (long)(y / 2) * (width / 2) + x / 2;
                const v8 found = NAME(load8)((const ELEMENT *)job->out + (4 * cell + y % 2 * 2 + x % 2) * 8);
                const v4 step = both_ways(job, i, size, found[5]);
                level += found + (v8){step[0], step[1], step[2], step[3]};
            }
            const float weight = sigmoid(level[4]);
            const v4 warped0 = bicubic(job, job->picture0, x + level[0], y + level[1]);
            const v4 warped1 = bicubic(job, job->picture1, x + level[2], y + level[3]);
            const v4 mixed = warped1 + weight * (warped0 - warped1);
            for (int k = 0; k < 3; k++)
                job->frame[k * size + i] = fminf(fmaxf(mixed[k], job->low), job->high);
            if (job->flow) {
                for (int k = 0; k < 4; k++) job->flow[k * size + i] = level[k];
                job->weight[i] = weight;
            }
        }
    }
}

#undef ELEMENT
#undef NAME
