/* instr.cuh - instructions that every generation since 8.0 has and CUDA C does not: one function each.
 *
 * Refuses to own: what is computed with them; those of Hopper alone (hopper.cuh). Addresses of shared memory are 32-bit
 * numbers (lr_cu_smem). On the emulated card they are tests/emulate/instructions.h's.
 */
#ifndef LR_INSTR_CUH
#define LR_INSTR_CUH

#include <stdint.h>

#ifndef LR_EMULATED
__device__ __forceinline__ uint32_t lr_cu_smem(const void *p) { return (uint32_t)__cvta_generic_to_shared(p); }

/* 16 bytes, or zeros if !real, on their way; a thread closes a group of its copies, and waits for all but the last N. */
__device__ __forceinline__ void lr_cu_copy16(uint32_t to, const void *from, bool real)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(real ? 16 : 0) : "memory");
}
/* n of 16 bytes, the rest zeros, of data that is read from end to end. */
__device__ __forceinline__ void lr_cu_stream16(uint32_t to, const void *from, uint32_t n)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(n) : "memory");
}
__device__ __forceinline__ void lr_cu_copy_end() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void lr_cu_copied()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

/* Four 8 x 8 matrices, whose 32 rows the lanes name. */
__device__ __forceinline__ void lr_cu_ldmatrix(uint32_t r[4], uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ void lr_cu_ldmatrix_turned(uint32_t r[4], uint32_t at)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}

/* c += a b: 16 rows, 8 columns, 16 of what is summed. */
template <bool BF16> __device__ __forceinline__ void lr_cu_mma(float c[4], const uint32_t a[4], const uint32_t b[2])
{
    if (BF16)
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
    else
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                     "{%0,%1,%2,%3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* 2^x, to two units in the last place; what would be denormal is 0. */
__device__ __forceinline__ float lr_cu_pow2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/* Nothing but that the compiler has the number in a register by now. */
__device__ __forceinline__ void lr_cu_keep(uint32_t &v) { asm volatile("" : "+r"(v)::"memory"); }
__device__ __forceinline__ void lr_cu_keep(float &v) { asm volatile("" : "+f"(v)::"memory"); }
#endif
#endif
