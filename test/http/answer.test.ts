// Goal: what was claimed is held only if its answer was written, also for clients that send several requests before
// they read an answer. Method: bytes on each transport, and an allocator whose first request waits.
import { createDriver } from '../../src/http/driver.ts';
import { createInFlight } from '../../src/http/in-flight.ts';
import { listen } from '../../src/http/listener/listen.ts';
import { dockerds } from '../kit/servers/raw-http.ts';
import { PLAIN, suiteWithFolders, TLS, type Transport } from '../kit/servers/transports.ts';
import { assert } from '../kit/uvu.ts';
import { ROOMY } from '../kit/vpcs.ts';
import { until } from '../kit/wait.ts';
import { pooled, type World } from '../kit/world.ts';

const REQUEST = dockerds('/IpamDriver.RequestAddress', '{"PoolID":"eni-0a","Address":"","Options":null}\n');
const RELEASE = dockerds('/IpamDriver.ReleaseAddress', '{"PoolID":"eni-0a","Address":"10.0.1.200"}\n');

/** Counts the handlers that have ended, too. */
function countedInFlight() {
  const inFlight = createInFlight();
  const counted = {
    ...inFlight,
    endedCount: 0,
    async track(handler: () => Promise<void>): Promise<void> {
      await inFlight.track(handler);
      counted.endedCount++;
    },
  };
  return counted;
}

/** A server whose first request waits for `first`, and a client of it. */
async function served(transport: Transport, first: (isGone: () => boolean) => Promise<void>) {
  const w = await pooled({ vpc: ROOMY });
  const seen = { requests: 0, releases: 0 };
  const allocator: World['allocator'] = {
    ...w.allocator,
    async request(asked) {
      seen.requests++;
      if (seen.requests === 1) await first(() => asked.caller.aborted);
      return await w.allocator.request(asked);
    },
    async release(...asked) {
      seen.releases++;
      return await w.allocator.release(...asked);
    },
  };
  const inFlight = countedInFlight();
  const service = { pools: w.pools, allocator, opened: async () => {} };
  const listening = await listen(createDriver(service, w.context.log, { inFlight }), transport.listener());
  const socket = transport.dial(listening.address).on('error', () => {});
  const client = { socket, received: '' };
  socket.on('data', chunk => {
    client.received += chunk;
  });
  const close = async () => {
    socket.destroy();
    await listening.close(1000);
  };
  return { w, seen, inFlight, client, close };
}

const addressesIn = (received: string): string[] => received.match(/(?<="Address":")[\d.]+/g) ?? [];

const several = suiteWithFolders('several requests at once on one connection', { certificates: true });

for (const transport of [...PLAIN, TLS]) {
  several(`of a client of ${transport.name} that hangs up behind one leave no holder`, async () => {
    const { w, seen, inFlight, client, close } = await served(transport, gone => until('the hang-up', gone));
    client.socket.write(REQUEST + REQUEST + REQUEST + RELEASE);
    await until('the first', () => seen.requests === 1);
    assert.is(client.received, '');
    client.socket.destroy();
    await until('its end', () => inFlight.endedCount === 1);
    assert.equal(await w.ipsWith('allocated'), []);
    await close();
    assert.equal(seen, { requests: 1, releases: 0 }, 'the others were not begun');
  });

  several(`of ${transport.name} are dealt with in turn, each with an address of its own`, async () => {
    const { promise: hold, resolve: proceed } = Promise.withResolvers<void>();
    const { w, seen, client, close } = await served(transport, () => hold);
    client.socket.write(REQUEST + REQUEST + REQUEST + RELEASE);
    await until('the first', () => seen.requests === 1);
    assert.equal(seen, { requests: 1, releases: 0 });
    proceed();
    await until('the answers', () => client.received.split('HTTP/1.1 200').length === 5);
    const given = addressesIn(client.received);
    assert.equal([...given].sort(), (await w.ipsWith('allocated')).sort());
    assert.is(given.length, 3);
    assert.match(client.received, /\r\n\r\n\{\}\n$/, 'the release, which came last');
    await close();
  });
}

several.run();
