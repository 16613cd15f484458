from pathlib import Path

from setuptools import find_packages, setup

REQUIREMENTS = [line.split("#")[0].strip() for line in
                Path(__file__).with_name("requirements.txt").read_text().splitlines()]

setup(
    name="iidm-jittor",
    version="0.1.0",
    description="IIDM: image-to-image diffusion for semantic image synthesis, on Jittor",
    license="Apache-2.0",
    python_requires=">=3.9",
    packages=find_packages(include=["ldm", "ldm.*"]),
    package_data={"ldm.platform": ["*.h"], "ldm.networks.onednn": ["*.h"], "ldm.networks.cuda": ["*.h"]},
    install_requires=[line for line in REQUIREMENTS if line],
    extras_require={"test": ["pytest", "safetensors"], "plots": ["matplotlib"]},
)
