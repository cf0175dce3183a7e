/* What convolutions read and write, as ELEMENT: float, or bfloat16 as its upper 16 bits. Included
   once for each; NAME(f) is f with the type behind it. */

#undef ELEMENT
#undef NAME
#undef KERNEL
#if ELEMENT_IS_BFLOAT16
#define ELEMENT uint16_t
#define NAME(f) f##_bfloat16
#else
#define ELEMENT float
#define NAME(f) f##_float32
#endif

#define KERNEL(f)                                                                          \
    INLINE void ROWS(NAME(f))(const JOB *job, int first, int last);                        \
    EACH_PROCESSOR(COPY, NAME(f))                                                          \
    INLINE void ROWS(NAME(f))(const JOB *job, int first, int last)

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

/* `count` elements, so few that calling memcpy for them costs more. */
INLINE void NAME(copy)(ELEMENT *to, const ELEMENT *from, int count) {
    int k = 0;
    for (; k + 8 <= count; k += 8) memcpy(to + k, from + k, 8 * sizeof *to);
    for (; k < count; k++) to[k] = from[k];
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

/* Twice 8 or 4 elements, in whatever order is quickest, and back again. */
#if ELEMENT_IS_BFLOAT16 /* even and odd ones: no value changes its place */
#define PAIRS(count, vector, words)                                                        \
    INLINE void NAME(load_pair##count)(const ELEMENT *from, vector *one, vector *other) {  \
        words bits;                                                                        \
        memcpy(&bits, from, sizeof bits);                                                  \
        *one = (vector)(bits << 16);                                                       \
        *other = (vector)(bits & 0xffff0000);                                              \
    }                                                                                      \
    INLINE void NAME(store_pair##count)(ELEMENT *to, vector one, vector other) {           \
        const words a = (words)one, b = (words)other;                                      \
        const words bits = (a + 0x7fff + ((a >> 16) & 1)) >> 16                            \
                         | ((b + 0x7fff + ((b >> 16) & 1)) & 0xffff0000);                  \
        memcpy(to, &bits, sizeof bits);                                                    \
    }
#else
#define PAIRS(count, vector, words)                                                        \
    INLINE void NAME(load_pair##count)(const ELEMENT *from, vector *one, vector *other) {  \
        memcpy(one, from, sizeof *one);                                                    \
        memcpy(other, from + count, sizeof *other);                                        \
    }                                                                                      \
    INLINE void NAME(store_pair##count)(ELEMENT *to, vector one, vector other) {           \
        memcpy(to, &one, sizeof one);                                                      \
        memcpy(to + count, &other, sizeof other);                                          \
    }
#endif
/* Twice `count` elements between four places. */
#define BLENDS(count, vector)                                                              \
    INLINE void NAME(blend##count)(const ELEMENT *from, ptrdiff_t right, ptrdiff_t below,  \
                                   float across, float down, ELEMENT *to) {                \
        vector a0, a1, b0, b1, c0, c1, d0, d1;                                             \
        NAME(load_pair##count)(from, &a0, &a1);                                            \
        NAME(load_pair##count)(from + right, &b0, &b1);                                    \
        NAME(load_pair##count)(from + below, &c0, &c1);                                    \
        NAME(load_pair##count)(from + below + right, &d0, &d1);                            \
        const vector upper0 = a0 + across * (b0 - a0), lower0 = c0 + across * (d0 - c0);   \
        const vector upper1 = a1 + across * (b1 - a1), lower1 = c1 + across * (d1 - c1);   \
        NAME(store_pair##count)(to, upper0 + down * (lower0 - upper0),                     \
                                upper1 + down * (lower1 - upper1));                        \
    }
PAIRS(8, v8, u8x)
PAIRS(4, v4, u4x)
BLENDS(8, v8)
BLENDS(4, v4)
#undef PAIRS
#undef BLENDS
