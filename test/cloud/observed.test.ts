// Goal: each request to EC2 is told once, with its result, whatever sends it. Method: a client in memory that the
// limiter sends, with an EC2 that throttles.

import { createMemoryClient } from '../../src/cloud/memory.ts';
import { observed } from '../../src/cloud/observed.ts';
import { createRateLimiter } from '../../src/cloud/rate-limiter.ts';
import { IpamError } from '../../src/domain/error.ts';
import type { Observer } from '../../src/domain/observer.ts';
import { assert, suite } from '../kit/uvu.ts';
import { ENI_A } from '../kit/vpcs.ts';
import { failure, world } from '../kit/world.ts';

const told = suite('EC2 that is observed');
told('a read that EC2 throttles first: is told as two requests, and the tokens that are left', async () => {
  const w = world();
  let now = 0;
  const calls: string[] = [];
  const lefts = new Map<string, () => number>();
  const observer = {
    ec2Called: (action, result, ms) => void calls.push(`${action} ${result} ${ms}`),
    tokens: (action, left) => void lefts.set(action, left),
  } as Partial<Observer> as Observer;
  const memory = createMemoryClient(w.vpc, { wait: async () => {}, deadlineClock: () => now });
  let refusals = 1;
  const client: typeof memory = {
    ...memory,
    sendingBy: sender =>
      memory.sendingBy((action, send) =>
        sender(action, async () => {
          now += 30;
          if (refusals-- > 0) throw new IpamError('ec2-throttled', 'too many');
          return await send();
        }),
      ),
  };
  const cloud = createRateLimiter(
    observed(client, observer, () => now),
    {
      clock: () => now,
      wait: async ms => {
        now += ms;
      },
      share: 0.5,
      budget: null,
      log: () => {},
      observer,
    },
  );
  await cloud.eni(ENI_A);
  assert.equal(calls, ['DescribeNetworkInterfaces ec2-throttled 30', 'DescribeNetworkInterfaces ok 30']);
  assert.equal([...lefts.keys()], ['DescribeNetworkInterfaces']);
  const left = lefts.get('DescribeNetworkInterfaces') ?? (() => Number.NaN);
  const before = left();
  now += 100;
  assert.ok(left() > before, 'tokens come back');
  await failure(cloud.eni('eni-0000000000000000f' as typeof ENI_A));
  assert.match(calls.at(-1) ?? '', /^DescribeNetworkInterfaces ec2-not-found/);
});
told.run();
