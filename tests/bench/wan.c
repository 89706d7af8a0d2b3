// wan: long links between network namespaces, emulated in user space.
//
// One TUN device per namespace. Every IPv4 packet is routed by the last octet of its destination, held for a fixed
// one-way delay, and dropped with a given probability, independently of all others. No bandwidth limit, no reordering.
// It serves where the kernel has no netem.
//
// usage: wan SETTINGS COUNTERS NAMESPACE:OCTET ...     (the device is called t0 in each namespace)
// SETTINGS holds "delay_us loss_ppm limit_packets" and is read again, and the counters set to zero, on SIGHUP.
// COUNTERS is written twice a second; put it in memory, a write that waits for a disk stalls every link.

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

enum {
    SLOTS = 65536,      // packets that can be on their way at once; a power of two
    PACKET = 1600,      // bytes, above any MTU in use
    READS_PER_WAKE = 32,
    IPV4_HEADER = 20,
    IPV4_LAST_OCTET = 19,  // of the destination address
};

static const uint64_t NS_PER_S = 1000000000ull;
static const uint64_t COUNTERS_EVERY = 500000000ull;  // ns
static const uint64_t LONGEST_SLEEP = 200000000ull;   // ns

struct packet {
    uint64_t due;  // ns
    uint16_t length;
    uint8_t octet;
    uint8_t bytes[PACKET];
};

struct settings {
    uint64_t delay;  // ns
    uint64_t loss;   // per million
    uint64_t limit;  // packets
};

struct counters {
    uint64_t forwarded, bytes, lost, overflow, write_errors, late_sum, late_max;  // late_*: ns
};

static struct packet *queue;             // a ring: delays are equal, so packets fall due in the order they came
static uint64_t head, tail;              // next free, next due
static int device_of[256];               // by last octet; -1 = none
static struct settings settings = {.limit = 10000};
static struct counters counters;
static volatile sig_atomic_t read_settings_again = 1, stop = 0;

static void on_hangup(int signal) { (void)signal; read_settings_again = 1; }
static void on_end(int signal) { (void)signal; stop = 1; }

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static uint64_t random_number(void) {  // xorshift64
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

// Opens t0 in the namespace named by "NAMESPACE:OCTET".
static void open_device(const char *end, int epoll) {
    char path[200];
    const char *colon = strrchr(end, ':');
    if (!colon || atoi(colon + 1) < 1 || atoi(colon + 1) > 254) {
        fprintf(stderr, "%s is not NAMESPACE:OCTET\n", end);
        exit(2);
    }
    snprintf(path, sizeof path, "/var/run/netns/%.*s", (int)(colon - end), end);
    int namespace = open(path, O_RDONLY);
    if (namespace < 0 || setns(namespace, CLONE_NEWNET)) fail(path);
    close(namespace);

    struct ifreq request = {.ifr_name = "t0", .ifr_flags = IFF_TUN | IFF_NO_PI};
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (device < 0 || ioctl(device, TUNSETIFF, &request)) fail("/dev/net/tun");
    device_of[atoi(colon + 1)] = device;
    struct epoll_event event = {.events = EPOLLIN, .data.fd = device};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, device, &event)) fail("epoll_ctl");
}

static void read_settings(const char *path) {
    unsigned long long delay_us, loss, limit;
    FILE *file = fopen(path, "r");
    if (!file) fail(path);
    if (fscanf(file, "%llu %llu %llu", &delay_us, &loss, &limit) == 3)
        settings = (struct settings){delay_us * 1000, loss, limit < SLOTS ? limit : SLOTS - 1};
    fclose(file);
    counters = (struct counters){0};
}

static void write_counters(const char *path) {
    FILE *file = fopen(path, "w");
    if (!file) return;
    double mean = counters.forwarded ? (double)counters.late_sum / (double)counters.forwarded / 1e3 : 0;
    fprintf(file,
            "forwarded %llu bytes %llu lost %llu overflow %llu write_errors %llu late_mean_us %.1f late_max_us %.1f "
            "queued %llu\n",
            (unsigned long long)counters.forwarded, (unsigned long long)counters.bytes,
            (unsigned long long)counters.lost, (unsigned long long)counters.overflow,
            (unsigned long long)counters.write_errors, mean, (double)counters.late_max / 1e3,
            (unsigned long long)(head - tail));
    fclose(file);
}

static void deliver_due(void) {
    uint64_t time = now();
    while (tail < head && queue[tail % SLOTS].due <= time) {
        struct packet *packet = &queue[tail++ % SLOTS];
        uint64_t late = time - packet->due;
        if (write(device_of[packet->octet], packet->bytes, packet->length) != packet->length) counters.write_errors++;
        counters.forwarded++;
        counters.bytes += packet->length;
        counters.late_sum += late;
        if (late > counters.late_max) counters.late_max = late;
        if (counters.forwarded % 16 == 0) time = now();
    }
}

// Takes one packet from a device. False when there is none.
static int take(int device) {
    struct packet *packet = &queue[head % SLOTS];
    ssize_t length = read(device, packet->bytes, PACKET);
    if (length <= 0) return 0;
    uint8_t octet = packet->bytes[IPV4_LAST_OCTET];
    if (length < IPV4_HEADER || packet->bytes[0] >> 4 != 4 || device_of[octet] < 0) return 1;
    if (settings.loss && random_number() % 1000000 < settings.loss) {
        counters.lost++;
    } else if (head - tail >= settings.limit) {
        counters.overflow++;
    } else {
        packet->length = (uint16_t)length;
        packet->octet = octet;
        packet->due = now() + settings.delay;
        head++;
    }
    return 1;
}

// Sleeps until a device is readable or the next packet is due.
static void wait_and_take(int epoll) {
    uint64_t sleep = LONGEST_SLEEP;
    if (tail < head) {
        uint64_t due = queue[tail % SLOTS].due, time = now();
        if (due <= time) sleep = 0;
        else if (due - time < sleep) sleep = due - time;
    }
    struct timespec timeout = {.tv_nsec = (long)sleep};
    struct epoll_event events[64];
    int ready = epoll_pwait2(epoll, events, 64, &timeout, NULL);
    for (int i = 0; i < ready; i++)
        for (int reads = 0; reads < READS_PER_WAKE && take(events[i].data.fd); reads++) {}
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: wan SETTINGS COUNTERS NAMESPACE:OCTET ...\n");
        return 2;
    }
    memset(device_of, -1, sizeof device_of);
    int epoll = epoll_create1(0);
    queue = malloc(sizeof *queue * SLOTS);
    if (epoll < 0 || !queue) fail("start");
    prctl(PR_SET_TIMERSLACK, 1000);
    for (int i = 3; i < count; i++) open_device(arguments[i], epoll);
    sigaction(SIGHUP, &(struct sigaction){.sa_handler = on_hangup}, NULL);
    sigaction(SIGTERM, &(struct sigaction){.sa_handler = on_end}, NULL);
    sigaction(SIGINT, &(struct sigaction){.sa_handler = on_end}, NULL);
    puts("ready");
    fflush(stdout);

    uint64_t next_counters = 0;
    while (!stop) {
        if (read_settings_again) {
            read_settings_again = 0;
            read_settings(arguments[1]);
        }
        deliver_due();
        if (now() >= next_counters) {
            next_counters = now() + COUNTERS_EVERY;
            write_counters(arguments[2]);
        }
        wait_and_take(epoll);
    }
    return 0;
}
