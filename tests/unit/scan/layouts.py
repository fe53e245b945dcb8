"""Page layouts of real kernels, as their VMCOREINFO tells them (x86_64, Debian's builds)."""

from kdumpd.vmcore.layout import PageLayout
from kdumpd.vmcore.vmcoreinfo import VmcoreInfo

_COMMON = """OSRELEASE=6.1.0
PAGESIZE=4096
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page._refcount)=52
OFFSET(page.mapping)=24
OFFSET(page._mapcount)=48
OFFSET(page.private)=40
LENGTH(zone.free_area)=11
NUMBER(PG_lru)=4
NUMBER(PG_private)=13
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=19
NUMBER(PG_head_mask)=65536
NUMBER(PG_hwpoison)=23
"""
_HEAD = "OFFSET(page.compound_head)=8\n"
_OLD_TYPES = "NUMBER(PG_slab)=9\nNUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-129\nNUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-257\n"
_DTOR = "OFFSET(page.compound_dtor)=16\nOFFSET(page.compound_order)=17\nNUMBER(HUGETLB_PAGE_DTOR)=2\n"
_NEW_TYPES = (
    "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456\nNUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240\n"
    "NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376\nNUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592\n"
)

TEXTS = {
    "6.1": _COMMON + _HEAD + _OLD_TYPES + _DTOR,
    "6.6": _COMMON + _HEAD + _OLD_TYPES + "NUMBER(PG_hugetlb)=8\n",
    "6.9": _COMMON + _HEAD + _OLD_TYPES + "NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-2049\n",
    "6.12": _COMMON + _HEAD + _NEW_TYPES,
    "7.1": _COMMON
    + "OFFSET(page.compound_info)=8\n"
    + _NEW_TYPES
    + "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)=-117440512\n",
}


def layout(kernel: str, *, without: str = "") -> PageLayout:
    """The layout of one kernel; lines that contain `without` are left out of its VMCOREINFO."""
    lines = [line for line in TEXTS[kernel].splitlines() if not without or without not in line]
    return PageLayout.of(VmcoreInfo("\n".join(lines).encode()))
