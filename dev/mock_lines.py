"""Fit the mixture of emission lines that the mock sky draws from: src/omnisky/observe/mock/lines.npz.

    python dev/mock_lines.py ../shared/data/desi_sv3_bgs_ew/desi_sv3_bgs_ew.parquet

Eight Gaussians in log10 of the continuum luminosity at Hα (L☉/Å) and of the equivalent widths (Å, rest frame) of Hα,
[O II], [O III] 5007, [N II] 6584, [S II] 6716 and 6731 of 30,000 galaxies of DESI's Early Data Release (Khederlarian et
al. 2024, MNRAS 531, 1454; DESI Collaboration 2024, AJ 168, 58). Widths below 0.1 Å count as 0.1. A width that is
missing was not positive in their fit: it is drawn between 0.05 and 0.4 Å, which is what noise leaves undetected.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from sklearn.mixture import GaussianMixture

OUT = Path(__file__).resolve().parents[1] / "src/omnisky/observe/mock/lines.npz"
LINES = ("halpha", "oii_doublet", "oiii_5007", "nii_6584", "sii_6716", "sii_6731")


def table(path: str) -> np.ndarray:
    """(galaxy, 7): log continuum at Hα, log EWs in the order of LINES."""
    lots = np.random.default_rng(0)
    rows = pq.read_table(path)
    continuum = rows["contlum_halpha"].to_numpy()
    widths = [rows[f"ew_{line}"].to_numpy() for line in LINES]
    widths = [np.where(np.isnan(ew), lots.uniform(0.05, 0.4, len(ew)), np.maximum(ew, 0.1)) for ew in widths]
    every = np.column_stack([continuum, *np.log10(widths)])
    return every[np.isfinite(every).all(axis=1)]


def main() -> None:
    data = table(sys.argv[1])
    fit = GaussianMixture(8, covariance_type="full", random_state=0, reg_covar=1e-3, max_iter=60, tol=1e-3).fit(data)
    np.savez(
        OUT,
        weight=fit.weights_.astype(np.float32),
        mean=fit.means_.astype(np.float32),
        covariance=fit.covariances_.astype(np.float32),
        source=np.str_("30,000 galaxies of DESI EDR, Khederlarian et al. 2024, MNRAS 531, 1454; see dev/mock_lines.py"),
        licence=np.str_("fit: MIT, as Omnisky; DESI EDR: CC BY 4.0"),
    )
    print(len(data), "galaxies; mean log likelihood", fit.score(data))
    print(np.round(np.column_stack([fit.weights_, fit.means_]), 2))


if __name__ == "__main__":
    main()
