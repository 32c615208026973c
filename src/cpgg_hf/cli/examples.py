"""One example per command, shown by its `--help`."""

EXAMPLES = {
    "cpgg": "cpgg generate --set LVEF=30 --num-samples 4 --out outputs/hearts --format nifti,gif",
    "cpgg card": "cpgg card runs/my_checkpoint --repository owner/name",
    "cpgg convert": "cpgg convert phenotype_vae published.pt --key model --out converted/phenotype_vae",
    "cpgg demo": "cpgg demo --out outputs/demo",
    "cpgg evaluate": "cpgg evaluate controllability outputs/varied",
    "cpgg evaluate controllability": "cpgg evaluate controllability outputs/varied",
    "cpgg evaluate fidelity": "cpgg evaluate fidelity outputs/varied data/phantom_small --reference-split test",
    "cpgg export-remote-code": "cpgg export-remote-code --out pipelines",
    "cpgg generate": "cpgg generate --set LVEF=30 --num-samples 4 --out outputs/hearts --format nifti,gif",
    "cpgg measure": "cpgg measure outputs/hearts/cine_00000.nii.gz",
    "cpgg phenotypes": "cpgg phenotypes",
    "cpgg prepare": "cpgg prepare dicom SERIES_FOLDER --out outputs/subject",
    "cpgg prepare cohort": (
        "cpgg prepare cohort ACDC_FOLDER --layout acdc --view any --out data/acdc --key-file KEY_FILE"
    ),
    "cpgg prepare dicom": "cpgg prepare dicom SERIES_FOLDER --out outputs/subject",
    "cpgg prepare nifti": "cpgg prepare nifti cine.nii.gz --rr-ms 900 --out outputs/subject",
    "cpgg prepare phantom": "cpgg prepare phantom --num-train 8000 --out data/phantom_small",
    "cpgg prepare ukb": (
        "cpgg prepare ukb --bulk ZIP_FOLDER --phenotypes TABLE.csv --out data/ukb --key-file KEY_FILE"
    ),
    "cpgg push": "cpgg push runs/my_checkpoint owner/name",
    "cpgg report": "cpgg report SERIES_FOLDER --phenotypes partial.json --out outputs/report",
    "cpgg sample-phenotypes": "cpgg sample-phenotypes --set LVEF=30 --num-samples 100 --out outputs/phenotypes.csv",
}
