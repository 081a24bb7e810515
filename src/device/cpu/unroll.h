/* A small loop of literal length whose body must become straight code, so that arrays of vectors live in registers. */
#ifndef HS_DEVICE_CPU_UNROLL_H
#define HS_DEVICE_CPU_UNROLL_H

#if defined(__clang__)
#define HS_UNROLL _Pragma("clang loop unroll(full)")
#else
#define HS_UNROLL _Pragma("GCC unroll 16")
#endif
/* The compiler forgets what it knows of a pointer, and so what it read through it. */
#define HS_FORGET(pointer) __asm__("" : "+r"(pointer))
#define HS_INLINE static inline __attribute__((always_inline))

#endif
