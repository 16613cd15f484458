#!/usr/bin/env bash
# Makes a folder like an installed CUDA 11.8 or 12.4 with cuDNN 8, from wheels and Debian's nvcc, so that
# everything can be compiled for it on a machine that has another CUDA or none. Nothing is installed.
#   bash test/gpu/get_cuda.sh 11|12 FOLDER       downloads 1.6 GB; needs pip, apt-get with Debian's non-free,
#                                                dpkg, and 6 GB of disk; FOLDER must not exist
set -e
major=$1 folder=$(realpath -m -- "${2:?a folder that does not exist}")
case $major in
12) nvcc=nvidia-cuda-toolkit=12.4* gcc=
    wheels="nvcc:12.4.131 runtime:12.4.127 cccl:12.4.127.post1 cudnn:8.9.7.29 cublas:12.4.5.8 curand:10.3.5.147
        cufft:11.2.1.3 cusparse:12.3.1.170 nvjitlink:12.4.127 npp:12.2.5.30" ;;
11) nvcc=nvidia-cuda-toolkit=11.8* gcc="g++-11 gcc-11 cpp-11 libgcc-11-dev libstdc++-11-dev"     # its newest
    wheels="nvcc:11.8.89 runtime:11.8.89 cccl:11.8.89.post1 cudnn:8.9.6.50 cublas:11.11.3.6 curand:10.3.0.86
        cufft:10.9.0.58 cusparse:11.7.5.86 npp:11.8.0.86" ;;
*) echo "error: $major: is no CUDA that can be made here; choose 11 or 12" >&2; exit 2 ;;
esac
[ ! -e "$folder" ] || { echo "error: $folder: exists; choose another folder" >&2; exit 2; }
mkdir -p "$folder"/{bin,include,lib64,nvvm/bin,nvvm/libdevice,parts}
cd "$folder/parts"
trap 'rm -rf "$folder/parts"' EXIT

names=()
for wheel in $wheels; do
    name=${wheel%%:*}
    case $name in nvcc | runtime | cccl) name=cuda-$name ;; esac
    names+=("nvidia-$name-cu$major==${wheel#*:}")
done
python3 -m pip install --quiet --no-deps --target wheels "${names[@]}"
apt-get download "$nvcc" $gcc
for package in *.deb; do
    case $package in nvidia-*) dpkg -x "$package" . ;; *) dpkg -x "$package" gcc ;; esac
done

cp -r wheels/nvidia/*/include/. "$folder/include"
for library in wheels/nvidia/*/lib/lib*; do
    mv "$library" "$folder/lib64"
    library=${library##*/}
    ln -sfn "$library" "$folder/lib64/${library%%.so*}.so"
done
[ -e "$folder/lib64/libcudadevrt.a" ] || ar rc "$folder/lib64/libcudadevrt.a"     # linked, with nothing used of it
mv usr/bin/{cudafe++,fatbinary,nvlink,ptxas,bin2c,cuobjdump,nvdisasm} "$folder/bin"
mv usr/lib/nvidia-cuda-toolkit/bin/{nvcc,crt} "$folder/bin"
mv usr/lib/nvidia-cuda-toolkit/bin/cicc "$folder/nvvm/bin"
mv usr/lib/nvidia-cuda-toolkit/libdevice/libdevice.10.bc "$folder/nvvm/libdevice"
[ -z "$gcc" ] || mv gcc/usr "$folder/gcc"       # gcc/bin/g++-11 finds its parts beside itself
cat >"$folder/bin/nvcc.profile" <<'END'
TOP = $(_HERE_)/..
NVVMIR_LIBRARY_DIR = $(TOP)/nvvm/libdevice
PATH += $(TOP)/nvvm/bin:$(_HERE_):
INCLUDES += "-I$(TOP)/include" $(_SPACE_)
LIBRARIES =+ $(_SPACE_) "-L$(TOP)/lib64"
END
"$folder/bin/nvcc" --version | tail -2
