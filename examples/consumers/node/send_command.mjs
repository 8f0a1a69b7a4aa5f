// Send a command by amqplib and print the answer: node send_command.mjs COMMAND.json BATCH
import { readFile } from "node:fs/promises";
import amqp from "amqplib";

const [path, batch] = process.argv.slice(2);
const command = JSON.parse(await readFile(path, "utf8"));
command.batchId = command.plan.batchId = batch;
command.plan.units[0].entry.shipmentControlNumber = batch.replaceAll("_", "-");
command.idempotencyKey = `order-${batch}`;

const connection = await amqp.connect(process.env.BROKER_URL);
const channel = await connection.createConfirmChannel();
const answered = new Promise((resolve) => channel.consume("amq.rabbitmq.reply-to", resolve, { noAck: true }));
await new Promise((resolve, reject) =>
  channel.publish(
    "exports",
    "execute",
    Buffer.from(JSON.stringify(command)),
    {
      contentType: "application/json",
      persistent: true,
      mandatory: true,
      replyTo: "amq.rabbitmq.reply-to",
      correlationId: command.idempotencyKey,
    },
    (error) => (error ? reject(error) : resolve()),
  ),
);
const message = await answered;
const answer = JSON.parse(message.content.toString());
console.log(message.properties.correlationId, message.properties.contentType, answer.exportId ?? answer.errorCode);
await connection.close();
