"""Which places are held out. A place is a `group` of the chips' index.csv, never divided.

Places that may be neighbours (patches numbered closely in SEN12MS-CR's test list, which follows
its regions) are kept on one side together.
"""

from typing import Literal

Split = Literal["train", "val", "test"]

VAL = frozenset(
    {
        "copernicus_fm_asset_20201002T221611_20201002T221610_T60HWB",
        "eotdl_samples_s2_roads",
        "plot226535",
        "plot227172",
        "plot247034",
        "plot250989",
        "plot361058",
        "satclip_s2_100k_patch_252161",
        "satclip_s2_100k_patch_70975",
        "satclip_s2_100k_patch_770287",
        "sen12mscr_test1302",
        "sen12mscr_test2729",
        "sen12mscr_test4438",
        "sen12mscr_test6553",
        "sen12mscr_test7264",
    }
)
TEST = frozenset(
    {
        "ROIs1868_summer_101",
        "ROIs1970_fall_136",
        "ROIs1970_fall_85",
        "ROIs2017_winter_102",
        "ROIs2017_winter_112_p797",
        "sen12mscr_test5254",
        "sen12mscr_test5278",
        "sen12mscr_test5349",
        "satclip_s2_100k_patch_70541",
        "satclip_s2_100k_patch_275979",
        "satclip_s2_100k_patch_526850",
        "satclip_s2_100k_patch_8845",
        "satclip_s2_100k_patch_502692",
        "satclip_s2_100k_patch_25630",
    }
)


def split_of(group: str) -> Split:
    """Say on which side of the split a place lies."""
    if group in TEST:
        return "test"
    return "val" if group in VAL else "train"
