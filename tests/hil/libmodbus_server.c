/* A slave on libmodbus, for the edge's conformance test: 64 holding and input registers.
 * Holding register i begins as i, input register i as 1000 + i. Prints its port when ready. */
#include <arpa/inet.h>
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void) {
    modbus_t *ctx = modbus_new_tcp("127.0.0.1", 0);
    modbus_mapping_t *map = modbus_mapping_new(16, 16, 64, 64);
    for (int i = 0; i < 64; i++) {
        map->tab_registers[i] = i;
        map->tab_input_registers[i] = 1000 + i;
    }
    int listener = modbus_tcp_listen(ctx, 1);
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    if (listener < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0) return 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        if (modbus_tcp_accept(ctx, &listener) < 0) return 1;
        for (;;) {
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
            int n = modbus_receive(ctx, query);
            if (n > 0) modbus_reply(ctx, query, n, map);
            else if (n < 0) break;
        }
        modbus_close(ctx);
    }
}
