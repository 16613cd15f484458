// The nearest entry of a codebook.
namespace iidm {

const int64_t LANES = 16;

// codes[i] = the first j with the smallest squares[j] - 2 z[i] b[j]; b: D x size, size a multiple of LANES. The
// smallest of each lane stays in a register; no distance is written to memory. The order of the sums is that of a
// product of matrices, so that entries at nearly equal distances are told apart as by the plain Quantizer.
template <int D>
void nearest(const float* z, const float* b, const float* squares, int* codes, int64_t rows, int64_t size) {
    #pragma omp parallel for
    for (int64_t i = 0; i < rows; i++) {
        float best[LANES];
        int at[LANES];
        for (int64_t lane = 0; lane < LANES; lane++) best[lane] = squares[lane], at[lane] = (int)lane;
        for (int64_t j = 0; j < size; j += LANES)
            for (int64_t lane = 0; lane < LANES; lane++) {
                float product = 0;
                for (int k = 0; k < D; k++)
                    product = __builtin_fmaf(z[i * D + k], b[k * size + j + lane], product);
                float distance = __builtin_fmaf(-2, product, squares[j + lane]);
                bool nearer = j == 0 || distance < best[lane];
                best[lane] = nearer ? distance : best[lane];
                at[lane] = nearer ? (int)(j + lane) : at[lane];
            }
        int64_t first = 0;
        for (int64_t lane = 1; lane < LANES; lane++)
            if (best[lane] < best[first] || (best[lane] == best[first] && at[lane] < at[first])) first = lane;
        codes[i] = at[first];
    }
}

}
