// A slave on npm's modbus-serial, for the edge's conformance test: 64 holding and input registers,
// 16 coils and discrete inputs, behind unit 1. Holding register i begins as i, input register i as
// 1000 + i. Prints its port when ready.
// Usage: node serve.js
const { ServerTCP } = require("modbus-serial");

const UNIT = 1;
const holding = Array.from({ length: 64 }, (_, i) => i);
const input = holding.map((i) => 1000 + i);
const coils = new Array(16).fill(false);

function at(table, address) {
  if (address >= table.length) throw Object.assign(new Error("no such address"), { modbusErrorCode: 2 });
  return table[address];
}

function set(table, address, value) {
  at(table, address);
  table[address] = value;
}

const slave = {
  getHoldingRegister: (address) => at(holding, address),
  getInputRegister: (address) => at(input, address),
  getCoil: (address) => at(coils, address),
  getDiscreteInput: (address) => at(coils, address),
  setRegister: (address, value) => set(holding, address, value),
  setCoil: (address, value) => set(coils, address, value),
};

// The library takes port 0 for its default, and keeps its socket to itself: take a free one first.
const probe = require("net").createServer();
probe.listen(0, "127.0.0.1", () => {
  const { port } = probe.address();
  probe.close(() => {
    const server = new ServerTCP(slave, { host: "127.0.0.1", port, unitID: UNIT });
    server.on("initialized", () => console.log(port));
    server.on("serverError", (error) => {
      console.error(error);
      process.exit(1);
    });
  });
});
