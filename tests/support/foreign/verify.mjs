// Verifies requests of callbacks with the official library from npm: one JSON object a line on
// standard input, one word a line on standard output. The library stands beside this file's copy.
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, headers, body } = JSON.parse(line);
  try {
    new Webhook(secret).verify(body, headers);
    console.log("verified");
  } catch (error) {
    console.log(`refused: ${error.message}`);
  }
}
