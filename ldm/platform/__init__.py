"""Getting Jittor to run on this machine: settings before its import, patches, the CUDA toolchain."""
