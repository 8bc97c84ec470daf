// Poll the emulator with npm's modbus-serial and print what came, as JSON.
// Usage: node poll.js PORT UNIT_OF_A_BATTERY
const ModbusRTU = require("modbus-serial");

async function refusal(promise) {
  try {
    await promise;
    return null;
  } catch (error) {
    return error.modbusCode ?? String(error);
  }
}

async function main() {
  const [port, unit] = process.argv.slice(2).map(Number);
  const client = new ModbusRTU();
  client.setTimeout(2000);
  await client.connectTCP("127.0.0.1", { port });
  client.setID(unit);
  const result = {};
  result.marker = (await client.readHoldingRegisters(40000, 2)).buffer.toString();
  result.model = (await client.readInputRegisters(40070, 1)).data[0];
  const many = await Promise.all(
    Array.from({ length: 50 }, (_, i) => client.readHoldingRegisters(40000 + i, 1)),
  );
  result.concurrent = many.length;
  await client.writeRegisters(40299, [1, 1, 0, 50000]);
  result.written = (await client.readHoldingRegisters(40299, 4)).data;
  await client.writeRegister(40299, 0);
  result.disabled = (await client.readHoldingRegisters(40299, 1)).data[0];
  result.identity = (await client.readDeviceIdentification(1, 0)).data;
  result.read_only = await refusal(client.writeRegister(40080, 1));
  result.no_address = await refusal(client.readHoldingRegisters(100, 1));
  client.setID(199);
  result.no_unit = await refusal(client.readHoldingRegisters(40000, 1));
  client.setID(247);
  result.coil = (await client.readCoils(0, 1)).data[0];
  result.finished = (await client.readDiscreteInputs(0, 1)).data[0];
  console.log(JSON.stringify(result));
  client.close(() => {});
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
