/* A Modbus/TCP slave on libmodbus, for the edge's conformance test and for the benchmarks.
 *
 * Without arguments: one port, every unit has 64 holding and input registers. Holding register i
 * begins as i, input register i as 1000 + i.
 *
 * With PORTS UNITS FIRST COUNT: so many ports, units 1 to UNITS behind each, each unit with COUNT
 * holding registers of its own from address FIRST on, which begin as standard input says (two
 * bytes a register, high byte first).
 *
 * Prints one port a line when it listens; serves any number of masters until it is killed.
 */
#include <arpa/inet.h>
#include <modbus.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_PORTS = 16, MOST_UNITS = 247, MOST_MASTERS = 4096 };

static modbus_mapping_t *units[MOST_PORTS][MOST_UNITS + 1];
static struct pollfd ends[MOST_PORTS + MOST_MASTERS];
static int port_of[MOST_PORTS + MOST_MASTERS];

static modbus_mapping_t *small_unit(void) {
    modbus_mapping_t *map = modbus_mapping_new(16, 16, 64, 64);
    for (int i = 0; map && i < 64; i++) {
        map->tab_registers[i] = i;
        map->tab_input_registers[i] = 1000 + i;
    }
    return map;
}

static int listen_on(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int end = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (end < 0 || bind(end, (struct sockaddr *)&address, size) < 0 || listen(end, 1024) < 0 ||
        getsockname(end, (struct sockaddr *)&address, &size) < 0)
        return -1;
    *port = ntohs(address.sin_port);
    return end;
}

/* Answer one request; -1 when the master is gone or talks nonsense. */
static int answer(modbus_t *ctx, int at) {
    uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
    modbus_set_socket(ctx, ends[at].fd);
    int n = modbus_receive(ctx, query);
    if (n <= 0) return n;
    modbus_mapping_t *map = query[6] <= MOST_UNITS ? units[port_of[at]][query[6]] : NULL;
    if (map) return modbus_reply(ctx, query, n, map);
    return modbus_reply_exception(ctx, query, MODBUS_EXCEPTION_GATEWAY_TARGET);
}

int main(int argc, char **argv) {
    int ports = argc > 4 ? atoi(argv[1]) : 1, count = argc > 4 ? atoi(argv[4]) : 0;
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    if (!ctx || ports < 1 || ports > MOST_PORTS) return 1;
    uint16_t begin[65536];
    for (int i = 0; i < count; i++) {
        int high = getchar(), low = getchar();
        if (high == EOF || low == EOF) return 1;
        begin[i] = (uint16_t)(high << 8 | low);
    }
    for (int p = 0; p < ports; p++) {
        modbus_mapping_t *shared = argc > 4 ? NULL : small_unit();
        int last = argc > 4 ? atoi(argv[2]) : MOST_UNITS;
        for (int u = argc > 4 ? 1 : 0; u <= last && u <= MOST_UNITS; u++) {
            units[p][u] = shared ? shared
                                 : modbus_mapping_new_start_address(0, 0, 0, 0, atoi(argv[3]),
                                                                    count, 0, 0);
            if (!units[p][u]) return 1;
            for (int i = 0; i < count; i++) units[p][u]->tab_registers[i] = begin[i];
        }
        int port;
        ends[p].fd = listen_on(&port);
        if (ends[p].fd < 0) return 1;
        ends[p].events = POLLIN;
        port_of[p] = p;
        printf("%d\n", port);
    }
    fflush(stdout);
    for (int open = ports;;) {
        if (poll(ends, open, -1) < 0) return 1;
        for (int at = open - 1; at >= ports; at--) {
            if (!ends[at].revents || answer(ctx, at) > 0) continue;
            close(ends[at].fd);
            ends[at] = ends[--open];
            port_of[at] = port_of[open];
        }
        for (int p = 0; p < ports; p++) {
            if (!ends[p].revents || open == MOST_PORTS + MOST_MASTERS) continue;
            int end = accept(ends[p].fd, NULL, NULL), one = 1;
            if (end < 0) continue;
            setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            ends[open] = (struct pollfd){.fd = end, .events = POLLIN};
            port_of[open++] = p;
        }
    }
}
