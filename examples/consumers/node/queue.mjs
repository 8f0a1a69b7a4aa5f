// A warehouse's reader of a RabbitMQ queue: does the work of each message once, then acknowledges it.
//
//   node queue.mjs amqp://user:password@mq.example// --queue wh_123 --bind 'warehouse.wh_123.#'

import { parseArgs } from 'node:util';
import amqp from 'amqplib';
import { Store } from './store.mjs';

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    queue: { type: 'string', default: 'exports.warehouse' },
    bind: { type: 'string' }, // creates the queue if it is missing, and binds it with this key
    store: { type: 'string', default: 'warehouse.jsonl' },
  },
});
const queueArguments = { 'x-queue-type': 'quorum', 'x-delivery-limit': 10, 'x-dead-letter-exchange': 'exports.dead' };
const store = new Store(values.store);

async function consume(connection) {
  const channel = await connection.createChannel();
  if (values.bind) {
    await channel.assertQueue(values.queue, { durable: true, arguments: queueArguments });
    await channel.bindQueue(values.queue, 'exports', values.bind);
  }
  await channel.prefetch(10);
  await channel.consume(values.queue, (message) => {
    if (message === null) throw new Error(`the queue ${values.queue} was deleted`);
    let line;
    try {
      line = store.keep(JSON.parse(message.content.toString('utf8')));
    } catch (error) {
      if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error; // a full disk, not a bad message
      console.error('rejected a message that cannot be read');
      channel.reject(message, false); // into the queue exports.dead
      return;
    }
    if (line) console.log(line);
    channel.ack(message); // only now: the broker delivers an unacknowledged message again
  });
  console.log('ready');
}

// A broken connection is opened again, and reading continues.
const connection = await amqp.connect(positionals[0], { recovery: { setup: consume } });
connection.on('error', (error) => console.error(`the connection broke: ${error.message}`));
connection.on('handler-error', (error) => {
  console.error(error);
  process.exit(1); // unacknowledged messages stay in the queue for the next start
});
process.on('SIGTERM', () => connection.close().finally(() => process.exit(0)));
