// The operations of `ops.py` as CUDA kernels, for machines without Triton. NVRTC compiles them at load; no header is
// needed. The letters are those of `ops.py`. Arithmetic is in float32, offsets are 64-bit.
//
// TYPE is 0 for float32, 1 for bfloat16, 2 for float16. VEC is how many numbers a thread moves at once.

typedef long long i64;

#if TYPE == 0
typedef float T;
__device__ __forceinline__ float widen(T value) { return value; }
__device__ __forceinline__ T narrow(float value) { return value; }
#elif TYPE == 1
typedef unsigned short T;
__device__ __forceinline__ float widen(T value) { return __uint_as_float((unsigned)value << 16); }
__device__ __forceinline__ T narrow(float value) {  // rounds to the nearest, a tie to the even one
    unsigned bits = __float_as_uint(value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;
    return (T)((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
#else
typedef unsigned short T;
__device__ __forceinline__ float widen(T value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value));
    return wide;
}
__device__ __forceinline__ T narrow(float value) {
    T half;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(half) : "f"(value));
    return half;
}
#endif

struct __align__(sizeof(T) * VEC) Pack {
    T value[VEC];
};

__device__ __forceinline__ Pack load(const T* from) { return *reinterpret_cast<const Pack*>(from); }
__device__ __forceinline__ void store(T* to, const Pack& pack) { *reinterpret_cast<Pack*>(to) = pack; }

// The sum over all threads of a block, whose size is a multiple of 32.
__device__ float block_sum(float value) {
    __shared__ float parts[32];
    for (int lane = 16; lane; lane >>= 1) value += __shfl_xor_sync(0xffffffffu, value, lane);
    __syncthreads();  // a former sum has been read
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    float sum = 0;
    for (int warp = 0; warp < blockDim.x / 32; warp++) sum += parts[warp];
    return sum;
}

// The row in `last` of a row that is among the last `patches` tokens of its sample; -1 for any other.
__device__ __forceinline__ i64 last_row(i64 row, i64 tokens, i64 patches) {
    i64 position = row % tokens - (tokens - patches);
    return position < 0 ? -1 : row / tokens * patches + position;
}

// A block is a row.
extern "C" __global__ void rms_norm(
    const T* x, const T* weight, T* y, T* last, i64 tokens, i64 patches, i64 x_row, i64 width, float eps
) {
    i64 row = blockIdx.x, copied = last ? last_row(row, tokens, patches) : -1;
    x += row * x_row;
    float squares = 0;
    for (i64 at = threadIdx.x * VEC; at < width; at += blockDim.x * VEC) {
        Pack pack = load(x + at);
        if (copied >= 0) store(last + copied * width + at, pack);
        for (int i = 0; i < VEC; i++) squares += widen(pack.value[i]) * widen(pack.value[i]);
    }
    float rstd = rsqrtf(block_sum(squares) / width + eps);
    for (i64 at = threadIdx.x * VEC; at < width; at += blockDim.x * VEC) {
        Pack pack = load(x + at), scale = load(weight + at);
        for (int i = 0; i < VEC; i++) pack.value[i] = narrow(widen(pack.value[i]) * rstd * widen(scale.value[i]));
        store(y + row * width + at, pack);
    }
}

// A block is a row.
extern "C" __global__ void rms_norm_backward(
    const T* grad_y, const T* x, const T* weight, const T* residual, T* grad_x,
    i64 grad_row, i64 x_row, i64 residual_row, i64 width, float eps
) {
    i64 row = blockIdx.x;
    grad_y += row * grad_row, x += row * x_row, residual += row * residual_row;
    float squares = 0, products = 0;
    for (i64 at = threadIdx.x * VEC; at < width; at += blockDim.x * VEC) {
        Pack pack = load(x + at), grad = load(grad_y + at), scale = load(weight + at);
        for (int i = 0; i < VEC; i++) {
            float wide = widen(pack.value[i]);
            squares += wide * wide;
            products += widen(grad.value[i]) * widen(scale.value[i]) * wide;
        }
    }
    float rstd = rsqrtf(block_sum(squares) / width + eps);
    float along = block_sum(products) / width * rstd * rstd;
    for (i64 at = threadIdx.x * VEC; at < width; at += blockDim.x * VEC) {
        Pack pack = load(x + at), grad = load(grad_y + at), scale = load(weight + at), beside;
        if (residual_row) beside = load(residual + at);
        for (int i = 0; i < VEC; i++) {
            float scaled = widen(grad.value[i]) * widen(scale.value[i]);
            float result = rstd * (scaled - widen(pack.value[i]) * along);
            pack.value[i] = narrow(residual_row ? result + widen(beside.value[i]) : result);
        }
        store(grad_x + row * width + at, pack);
    }
}

// A thread turns two numbers of one head, a half of its features apart. threadIdx.y and blockIdx.x are a row of the
// output, blockIdx.y is a head: of queries, then keys, then values. blockIdx.z is a sample.
extern "C" __global__ void split_heads(
    const T* qkv, const float* cos, const float* sin, const T* prefix_keys, const T* prefix_values,
    T* query, T* keys, T* values, i64 tokens, i64 prefix_tokens, i64 heads, i64 kv, i64 half,
    i64 qkv_sample, i64 qkv_token, i64 cos_sample, i64 cos_token
) {
    i64 head = blockIdx.y, sample = blockIdx.z, features = 2 * half, rows = prefix_tokens + tokens;
    i64 row = (i64)blockIdx.x * blockDim.y + threadIdx.y, token = head < heads ? row : row - prefix_tokens;
    if (token >= tokens) return;
    bool is_key = head >= heads && head < heads + kv, is_value = head >= heads + kv;
    i64 own = is_value ? head - heads - kv : head - heads;  // of a key-value head
    T* out = head < heads ? query + ((sample * tokens + token) * heads + head) * features
                          : (is_key ? keys : values) + ((sample * kv + own) * rows + row) * features;
    const T* source = token < 0 ? (is_key ? prefix_keys : prefix_values) + (own * prefix_tokens + row) * features
                                : qkv + sample * qkv_sample + token * qkv_token + head * features;
    const float *c = cos + sample * cos_sample + token * cos_token, *s = sin + sample * cos_sample + token * cos_token;
    for (i64 at = threadIdx.x; at < half; at += blockDim.x) {
        if (token < 0 || is_value) {
            out[at] = source[at], out[at + half] = source[at + half];
            continue;
        }
        float first = widen(source[at]), second = widen(source[at + half]);
        out[at] = narrow(first * c[at] - second * s[at]);
        out[at + half] = narrow(second * c[at] + first * s[at]);
    }
}

// As split_heads, the other way round: a row is a token.
extern "C" __global__ void merge_heads(
    const T* query, const T* keys, const T* values, const float* cos, const float* sin, T* grad_qkv,
    i64 tokens, i64 heads, i64 kv, i64 half, i64 query_sample, i64 query_kv, i64 query_row, i64 keys_sample,
    i64 keys_kv, i64 keys_row, i64 values_sample, i64 values_kv, i64 values_row, i64 cos_sample, i64 cos_token
) {
    i64 head = blockIdx.y, sample = blockIdx.z, features = 2 * half;
    i64 token = (i64)blockIdx.x * blockDim.y + threadIdx.y;
    if (token >= tokens) return;
    bool is_query = head < heads, is_value = head >= heads + kv;
    const T* source = is_query
        ? query + sample * query_sample + head % kv * query_kv + (token * (heads / kv) + head / kv) * query_row
        : is_value ? values + sample * values_sample + (head - heads - kv) * values_kv + token * values_row
                   : keys + sample * keys_sample + (head - heads) * keys_kv + token * keys_row;
    T* out = grad_qkv + ((sample * tokens + token) * (heads + 2 * kv) + head) * features;
    const float *c = cos + sample * cos_sample + token * cos_token, *s = sin + sample * cos_sample + token * cos_token;
    for (i64 at = threadIdx.x; at < half; at += blockDim.x) {
        float first = widen(source[at]), second = widen(source[at + half]);
        out[at] = is_value ? source[at] : narrow(first * c[at] + second * s[at]);
        out[at + half] = is_value ? source[at + half] : narrow(second * c[at] - first * s[at]);
    }
}

__device__ __forceinline__ i64 first_column() { return ((i64)blockIdx.y * blockDim.x + threadIdx.x) * VEC; }
__device__ __forceinline__ i64 all_columns() { return (i64)gridDim.y * blockDim.x * VEC; }

// blockIdx.x is a row; the blocks of a row share its columns.
extern "C" __global__ void swiglu(
    const T* gate_up, T* out, T* last, i64 tokens, i64 patches, i64 gate_up_row, i64 width
) {
    i64 row = blockIdx.x, copied = last ? last_row(row, tokens, patches) : -1;
    for (i64 at = first_column(); at < width; at += all_columns()) {
        Pack gate = load(gate_up + row * gate_up_row + at), up = load(gate_up + row * gate_up_row + width + at);
        if (copied >= 0) {
            store(last + copied * 2 * width + at, gate);
            store(last + copied * 2 * width + width + at, up);
        }
        for (int i = 0; i < VEC; i++) {
            float wide = widen(gate.value[i]);
            gate.value[i] = narrow(wide / (1 + expf(-wide)) * widen(up.value[i]));
        }
        store(out + row * width + at, gate);
    }
}

// As swiglu. `out` may be `gate_up`: a thread reads before it writes.
extern "C" __global__ void swiglu_backward(
    const T* grad_act, const T* gate_up, T* out, i64 grad_row, i64 gate_up_row, i64 out_row, i64 width
) {
    i64 row = blockIdx.x;
    for (i64 at = first_column(); at < width; at += all_columns()) {
        Pack gate = load(gate_up + row * gate_up_row + at), up = load(gate_up + row * gate_up_row + width + at);
        Pack grad = load(grad_act + row * grad_row + at);
        for (int i = 0; i < VEC; i++) {
            float wide = widen(gate.value[i]), given = widen(grad.value[i]), sigmoid = 1 / (1 + expf(-wide));
            gate.value[i] = narrow(given * widen(up.value[i]) * sigmoid * (1 + wide * (1 - sigmoid)));
            up.value[i] = narrow(given * wide * sigmoid);
        }
        store(out + row * out_row + at, gate);
        store(out + row * out_row + width + at, up);
    }
}

// A thread makes the 8 weights of a 32-bit word. A byte holds two, the first in its high half.
extern "C" __global__ void dequantize_nf4(
    const unsigned* packed, const void* absmax, const float* code_16, const float* nested_absmax,
    const float* nested_code, const float* offset, T* out, i64 words, i64 words_a_block, i64 nested_block
) {
    __shared__ float code[16];
    if (threadIdx.x < 16) code[threadIdx.x] = code_16[threadIdx.x];
    __syncthreads();
    i64 at = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    if (at >= words) return;
    i64 block = at / words_a_block;
    float scale = nested_absmax ? nested_code[((const unsigned char*)absmax)[block]] * nested_absmax[block / nested_block]
                                      + *offset
                                : ((const float*)absmax)[block];
    unsigned bits = packed[at];
    struct __align__(16) { T value[8]; } weights;
    for (int byte = 0; byte < 4; byte++, bits >>= 8) {
        weights.value[2 * byte] = narrow(code[bits >> 4 & 15] * scale);
        weights.value[2 * byte + 1] = narrow(code[bits & 15] * scale);
    }
    *reinterpret_cast<decltype(weights)*>(out + at * 8) = weights;
}
