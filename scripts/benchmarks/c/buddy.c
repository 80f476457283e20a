/* The buddy allocator of mmfs/fastpath/buddy.py once more in C: what the same algorithm over the same records costs when it is
 * written in C. Movable pages of order 0 on a machine with one populated zone, and everything on their way: zonelist,
 * watermarks, per-CPU list with its self-tuning batch and high, splitting, merging, counters. No fallbacks: with one
 * migratetype they never happen.
 *
 * buddy PAGES PERMUTATION_FILE   one round (allocate PAGES, free them in the permutation's order) for each line on standard
 *                                input; prints: ns of CPU to allocate, ns to free, hash of the frame numbers, free blocks
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { TOP = 10, ORDERS, BLOCK = 9, BLOCK_PAGES = 512, PCPTYPES = 3, LOW_LISTS = 12, LISTS = 14, SCALE_MAX = 5 };
enum { MOVABLE = 1, HIGHATOMIC = 3, ISOLATE = 4, TYPES = 5 };
enum { VIRGIN, FREE, SPLIT, TAIL = 5 };
enum { PG_BUDDY = 1 << 24, PG_PCP = 1 << 29, PREV_FREE_HIGH = 1, FREE_HIGH_BATCH = 2, COSTLY = 3 };

struct page { uint32_t flags, nxt, prv, mapping, index, private; int32_t mapcount; uint16_t memcg, pins; };
struct block { uint32_t nxt, prv, mapping, flags, index; int32_t mapcount; uint64_t table, pteflags;
               uint8_t state, migratetype, order, zone; uint16_t memcg, nr_free; uint64_t spare[2]; };

enum { NORMAL = 2, MOVABLE_ZONE = 3, ZONES = 5, NOFRAGMENT = 0x100, NO_WATERMARKS = 4, WMARK_LOW = 1 };
enum { PGALLOC_DMA = 4, PGFREE = 19, NUMA_HIT = 0, NUMA_MISS, NUMA_FOREIGN, NUMA_LOCAL = 4, NUMA_OTHER };
struct zone { long start_pfn, end_pfn, managed, wmark_min, wmark_low, wmark_high, wmark_promo, watermark_boost;
              long nr_reserved_highatomic, nr_free_highatomic, virgin, virgin_end;
              int nid, zid, below_high, boosted, reclaim_active, pad; };
struct pcp { int count, high, high_min, high_max, batch, alloc_factor, free_count, flags; };

static struct page *page;
static struct block *block;
static long nr_blocks, page_heads, block_heads, pcp_heads, nr_zones = ZONES, cpu;
static long *nr_free, (*zone_stat)[12], (*numa_event)[6], *event, (*extent)[2], (*lowmem_reserve)[ZONES];
static struct zone *zone;
static struct pcp *pcp;
static int (*zonelist)[ZONES + 1], *cpu_node, nr_online_nodes = 1, wake_kswapd;

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define LIST(array) \
    static void array##_add(long head, long p) { \
        long first = array[head].nxt; \
        array[head].nxt = p; array[p].prv = head; array[p].nxt = first; array[first].prv = p; } \
    static void array##_add_tail(long head, long p) { \
        long last = array[head].prv; \
        array[head].prv = p; array[p].nxt = head; array[p].prv = last; array[last].nxt = p; } \
    static void array##_del(long p) { \
        long before = array[p].prv, after = array[p].nxt; \
        array[before].nxt = after; array[after].prv = before; }
LIST(page)
LIST(block)

static void account(long z, long nr, int mt) {
    if (mt == ISOLATE) return;
    zone_stat[z][0] += nr;
    if (mt == HIGHATOMIC) zone[z].nr_free_highatomic += nr;
}

static int is_buddy(long pfn, int order, long z) {
    long b = pfn >> BLOCK;
    if (order < BLOCK)
        return block[b].state == SPLIT && page[pfn].flags & PG_BUDDY && page[pfn].private == (uint32_t)order;
    return b < nr_blocks && block[b].state == FREE && block[b].order == order && block[b].zone == z;
}

static void add_to_free_list(long z, long pfn, int order, int mt, int tail) {
    nr_free[(z * ORDERS + order) * TYPES + mt]++;
    if (order < BLOCK) {
        long head = page_heads + (z * BLOCK + order) * TYPES + mt;
        page[pfn].flags = PG_BUDDY;
        page[pfn].private = order;
        if (tail) page_add_tail(head, pfn); else page_add(head, pfn);
        return;
    }
    long b = pfn >> BLOCK, head = block_heads + (z * 2 + order - BLOCK) * TYPES + mt;
    block[b].state = FREE;
    block[b].order = order;
    if (order > BLOCK) block[b + 1].state = TAIL;
    if (tail) block_add_tail(head, b); else block_add(head, b);
}

static void del_from_free_list(long z, long pfn, int order, int mt) {
    nr_free[(z * ORDERS + order) * TYPES + mt]--;
    if (order < BLOCK) {
        page_del(pfn);
        page[pfn].flags = 0;
        page[pfn].private = 0;
    } else if (block[pfn >> BLOCK].state == FREE)
        block_del(pfn >> BLOCK);
    else if ((extent[zone[z].virgin][0] += 1 << TOP) >= extent[zone[z].virgin][1])
        zone[z].virgin++;
}

static long first_free(long z, int order, int mt) {
    if (order < BLOCK) {
        long head = page_heads + (z * BLOCK + order) * TYPES + mt, first = page[head].nxt;
        return first == head ? -1 : first;
    }
    long head = block_heads + (z * 2 + order - BLOCK) * TYPES + mt, first = block[head].nxt;
    if (first != head) return first << BLOCK;
    return order == TOP && mt == MOVABLE && zone[z].virgin < zone[z].virgin_end ? extent[zone[z].virgin][0] : -1;
}

static long expand(long z, long pfn, int low, int high, int mt) {
    long size = 1L << high, added = 0;
    if (high >= BLOCK) {
        block[pfn >> BLOCK].state = SPLIT;
        if (high > BLOCK) block[(pfn >> BLOCK) + 1].state = SPLIT;
    }
    while (high > low) {
        high--;
        size >>= 1;
        add_to_free_list(z, pfn + size, high, mt, 0);
        added += size;
    }
    return added;
}

static long rmqueue_smallest(long z, int order, int mt) {
    for (int o = order; o < ORDERS; o++) {
        long pfn = first_free(z, o, mt);
        if (pfn < 0) continue;
        del_from_free_list(z, pfn, o, mt);
        account(z, expand(z, pfn, order, o, mt) - (1 << o), mt);
        return pfn;
    }
    return -1;
}

static void free_one_page(long z, long pfn, int order, int mt) {
    long buddy = 0;
    int tail = 0;
    account(z, 1L << order, mt);
    while (order < TOP) {
        int buddy_mt = mt;
        buddy = pfn ^ (1L << order);
        if (!is_buddy(buddy, order, z)) break;
        if (order >= BLOCK) {
            buddy_mt = block[buddy >> BLOCK].migratetype;
            if (buddy_mt != mt && (buddy_mt >= PCPTYPES || mt >= PCPTYPES)) break;
        }
        del_from_free_list(z, buddy, order, buddy_mt);
        if (buddy_mt != mt) block[buddy >> BLOCK].migratetype = mt;
        pfn &= buddy;
        order++;
    }
    if (order < TOP - 1) tail = is_buddy((buddy & pfn) ^ (2L << order), order + 1, z);
    add_to_free_list(z, pfn, order, mt, tail);
}

static int watermark_ok(long z, long mark, int highest) { /* order 0, no reserves: all that is asked for here */
    return zone_stat[z][0] - zone[z].nr_free_highatomic > mark + lowmem_reserve[z][highest];
}

static int nr_pcp_alloc(struct pcp *p, long z) {
    int base = p->batch, high = MIN(MAX(p->high, p->high_min), p->high_max), batch, most;
    p->high = high;
    if (high < base) return 1;
    batch = base << p->alloc_factor;
    if (p->high_min != p->high_max && !zone[z].below_high) p->high = high = MIN(high + batch, p->high_max);
    most = MAX(high - p->count - base, base);
    if (batch <= most && p->alloc_factor < SCALE_MAX) p->alloc_factor++;
    batch = MIN(batch, most);
    return batch > 1 ? MAX(batch, 2) : batch;
}

static long rmqueue_pcplist(long z, int mt) {
    struct pcp *p = &pcp[cpu * nr_zones + z];
    long head = pcp_heads + (cpu * nr_zones + z) * LISTS + mt, pfn;
    p->free_count >>= 1;
    if (page[head].nxt == (uint32_t)head) {
        int n = nr_pcp_alloc(p, z);
        for (int i = 0; i < n; i++) {
            pfn = rmqueue_smallest(z, 0, mt);
            if (pfn < 0) break;
            page[pfn].flags = PG_PCP;
            page_add_tail(head, pfn);
            p->count++;
        }
        if (page[head].nxt == (uint32_t)head) return -1;
    }
    pfn = page[head].nxt;
    page_del(pfn);
    page[pfn].flags = 0;
    p->count--;
    return pfn;
}

static long rmqueue(long preferred, long z, int mt) {
    long pfn = rmqueue_pcplist(z, mt);
    if (pfn < 0) return -1;
    event[PGALLOC_DMA + zone[z].zid]++;
    numa_event[z][zone[z].nid == cpu_node[cpu] ? NUMA_LOCAL : NUMA_OTHER]++;
    if (zone[z].nid == zone[preferred].nid)
        numa_event[z][NUMA_HIT]++;
    else {
        numa_event[z][NUMA_MISS]++;
        numa_event[preferred][NUMA_FOREIGN]++;
    }
    if (zone[z].boosted) zone[z].boosted = 0, wake_kswapd = 1;
    return pfn;
}

static long alloc(int mt, int nid, int highest, int flags, uint64_t nodemask) {
    long preferred = -1;
    for (;;) {
        for (long i = 0; i < nr_zones; i++) {
            long z = zonelist[nid][i], pfn;
            if (z < 0) break;
            if (zone[z].zid > highest || !(nodemask >> zone[z].nid & 1)) continue;
            if (preferred < 0) {
                preferred = z;
                if (zone[z].zid == NORMAL && (nr_online_nodes <= 1 || zone[z - 1].managed > 0)) flags |= NOFRAGMENT;
            } else if (flags & NOFRAGMENT && nr_online_nodes > 1 && zone[z].nid != zone[preferred].nid)
                break;
            if (!zone[z].below_high && !watermark_ok(z, zone[z].wmark_high + zone[z].watermark_boost, highest))
                zone[z].below_high = 1;
            if (zone[z].below_high && !(flags & NO_WATERMARKS)) {
                long mark = flags & WMARK_LOW ? zone[z].wmark_low : zone[z].wmark_min;
                if (!watermark_ok(z, mark + zone[z].watermark_boost, highest)) continue;
            }
            pfn = rmqueue(preferred, z, mt);
            if (pfn >= 0) return pfn;
        }
        if (!(flags & NOFRAGMENT)) return -1;
        flags &= ~NOFRAGMENT;
    }
}

static void free_pcppages_bulk(long z, struct pcp *p, long heads, int count, int pindex) {
    count = MIN(count, p->count);
    pindex--;
    while (count > 0) {
        if (++pindex > LISTS - 1) pindex = 0;
        long head = heads + pindex;
        int order = pindex >= LOW_LISTS ? BLOCK : pindex / PCPTYPES;
        while (count > 0 && page[head].prv != (uint32_t)head) {
            long pfn = page[head].prv;
            page_del(pfn);
            page[pfn].flags = 0;
            count -= 1 << order;
            p->count -= 1 << order;
            free_one_page(z, pfn, order, block[pfn >> BLOCK].migratetype);
        }
    }
}

static int nr_pcp_high(struct pcp *p, long z, int batch) {
    int low = p->high_min, top = p->high_max, high = MIN(MAX(p->high, low), top), burst = MAX(p->free_count, batch);
    p->high = high;
    if (!high) return 0;
    if (zone[z].reclaim_active) { p->high = MAX(high - burst, low); return MIN(batch << 2, p->high); }
    if (low == top) return high;
    if (zone[z].below_high) {
        p->high = MAX(high - burst, low);
        return MAX(p->count, low);
    }
    if (p->count >= high) {
        burst = p->free_count + batch;
        if (p->high < burst) p->high = MIN(MAX(burst, low), top);
    }
    return high;
}

static void free_page(long pfn) {
    long z = block[pfn >> BLOCK].zone;
    struct pcp *p = &pcp[cpu * nr_zones + z];
    long heads = pcp_heads + (cpu * nr_zones + z) * LISTS;
    int mt = block[pfn >> BLOCK].migratetype, batch = p->batch, high;
    event[PGFREE]++;
    if (mt == ISOLATE) { free_one_page(z, pfn, 0, mt); return; }
    if (mt >= PCPTYPES) mt = MOVABLE;
    p->alloc_factor >>= 1;
    page[pfn].flags = PG_PCP;
    page_add(heads + mt, pfn);
    p->count++;
    p->flags &= ~PREV_FREE_HIGH;
    if (p->free_count < batch << SCALE_MAX) p->free_count++;
    high = nr_pcp_high(p, z, batch);
    if (p->count >= high) {
        free_pcppages_bulk(z, p, heads, high < batch ? 1 : MIN(MAX(p->free_count, batch), high - batch), mt);
        if (zone[z].below_high && watermark_ok(z, zone[z].wmark_high + zone[z].watermark_boost, MOVABLE_ZONE))
            zone[z].below_high = 0;
    }
}

static void *lazily(size_t size) {
    void *area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (area == MAP_FAILED) { perror("mmap"); exit(1); }
    return area;
}

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}

int main(int argc, char **argv) {
    long n = argc == 3 ? atol(argv[1]) : 0, frames = n * 2;
    int64_t *order = malloc(n * 8), *pfns = malloc(n * 8);
    FILE *file = argc == 3 ? fopen(argv[2], "rb") : NULL;
    if (!file || fread(order, 8, n, file) != (size_t)n) { fputs("buddy PAGES PERMUTATION_FILE\n", stderr); return 2; }
    for (long i = 0; i < n; i++) pfns[i] = 0;
    nr_blocks = frames >> BLOCK;
    page_heads = frames;
    pcp_heads = page_heads + ZONES * BLOCK * TYPES;
    block_heads = nr_blocks;
    page = lazily((pcp_heads + ZONES * LISTS) * sizeof *page);
    block = lazily((nr_blocks + ZONES * 2 * TYPES) * sizeof *block);
    for (long h = page_heads; h < pcp_heads + ZONES * LISTS; h++) page[h].nxt = page[h].prv = h;
    for (long h = block_heads; h < block_heads + ZONES * 2 * TYPES; h++) block[h].nxt = block[h].prv = h;
    for (long b = 0; b < nr_blocks; b++) block[b].state = VIRGIN, block[b].migratetype = MOVABLE, block[b].zone = NORMAL;
    nr_free = calloc(ZONES * ORDERS * TYPES, sizeof *nr_free);
    zone_stat = calloc(ZONES, sizeof *zone_stat);
    numa_event = calloc(ZONES, sizeof *numa_event);
    event = calloc(128, sizeof *event);
    extent = calloc(1, sizeof *extent);
    lowmem_reserve = calloc(ZONES, sizeof *lowmem_reserve);
    zone = calloc(ZONES, sizeof *zone);
    pcp = calloc(ZONES, sizeof *pcp);
    zonelist = calloc(1, sizeof *zonelist);
    cpu_node = calloc(1, sizeof *cpu_node);
    zonelist[0][0] = NORMAL;
    zonelist[0][1] = -1;
    extent[0][1] = frames;
    nr_free[(NORMAL * ORDERS + TOP) * TYPES + MOVABLE] = frames >> TOP;
    zone_stat[NORMAL][0] = frames;
    zone[NORMAL] = (struct zone){.end_pfn = frames, .managed = frames, .wmark_min = 4000, .wmark_low = 5000,
                                 .wmark_high = 6000, .virgin_end = 1, .zid = NORMAL};
    pcp[NORMAL] = (struct pcp){.high_min = 1000, .high_max = 8000, .batch = 63};

    for (char line[8]; fgets(line, sizeof line, stdin);) {
        long t0 = now();
        for (long i = 0; i < n; i++) pfns[i] = alloc(MOVABLE, 0, MOVABLE_ZONE, WMARK_LOW, ~0UL);
        long t1 = now();
        uint64_t hash = 0;
        for (long i = 0; i < n; i++) hash = hash * 31 + pfns[i];
        long t2 = now();
        for (long i = 0; i < n; i++) free_page(pfns[order[i]]);
        long t3 = now();
        printf("%ld %ld %lu", t1 - t0, t3 - t2, hash);
        for (int o = 0; o < ORDERS; o++) printf(" %ld", nr_free[(NORMAL * ORDERS + o) * TYPES + MOVABLE]);
        puts("");
        fflush(stdout);
    }
    return 0;
}
