/**
 * uvu under any runner. Run by uvu itself (scripts/test.ts), this is uvu, untouched. Under `bun test`,
 * `deno test` and `node --test`, which would count no tests and succeed, the same suites are registered
 * with the host's runner, so that names, counts and exit codes are its own.
 */
import process from 'node:process';
import * as uvu from 'uvu';

export * as assert from 'uvu/assert';

type Body = (context: Record<string, unknown>) => unknown;
interface Host {
  describe(name: string, body: () => void): void;
  test(name: string, body: () => Promise<void>): void;
  skip(name: string, body: () => void): void;
  before(body: () => Promise<void>): void;
  after(body: () => Promise<void>): void;
}

async function detectHost(): Promise<Host | null> {
  const runtime = globalThis as { Bun?: unknown; Deno?: { test: { name: string } } };
  if (runtime.Bun !== undefined) {
    const bun = await import('bun:test' as string);
    try {
      bun.afterAll(() => {}); // throws outside `bun test`
    } catch {
      return null;
    }
    return {
      describe: bun.describe,
      test: bun.test,
      skip: bun.test.skip,
      before: bun.beforeAll,
      after: bun.afterAll,
    };
  }
  const hosted =
    runtime.Deno === undefined
      ? process.env.NODE_TEST_CONTEXT !== undefined
      : runtime.Deno.test.name !== 'noopTest';
  if (!hosted) return null;
  const node = await import('node:test');
  return {
    describe: (name, body) => void node.describe(name, body),
    test: (name, body) => void node.it(name, body),
    skip: (name, body) => void node.it.skip(name, body),
    before: node.before,
    after: node.after,
  };
}

interface Case {
  name: string;
  body: Body;
  mode: 'run' | 'skip' | 'only';
}

function hostSuite(name: string, host: Host, extra: Record<string, unknown> = {}) {
  const cases: Case[] = [];
  const hooks = {
    before: [] as Body[],
    after: [] as Body[],
    beforeEach: [] as Body[],
    afterEach: [] as Body[],
  };
  const context: Record<string, unknown> = { ...extra, __suite__: name, __test__: '' };
  const add = (mode: Case['mode']) => (caseName: string, body: Body) =>
    void cases.push({ name: caseName, body, mode });
  const hook = (when: keyof typeof hooks) => (body: Body) => void hooks[when].push(body);
  const all = async (when: keyof typeof hooks) => {
    for (const body of hooks[when]) await body(context);
  };
  const runCase = async (one: Case) => {
    context.__test__ = one.name;
    try {
      await all('beforeEach');
      await one.body(context);
    } finally {
      await all('afterEach');
    }
  };
  const run = () =>
    host.describe(name, () => {
      const someOnly = cases.some(one => one.mode === 'only');
      host.before(() => all('before'));
      host.after(() => all('after'));
      for (const one of cases)
        if (one.mode === 'skip' || (someOnly && one.mode !== 'only')) host.skip(one.name, () => {});
        else host.test(one.name, () => runCase(one));
    });
  return Object.assign(add('run'), {
    skip: add('skip'),
    only: add('only'),
    before: Object.assign(hook('before'), { each: hook('beforeEach') }),
    after: Object.assign(hook('after'), { each: hook('afterEach') }),
    run,
  });
}

const host = await detectHost();

export const suite: typeof uvu.suite =
  host === null
    ? uvu.suite
    : (((name: string, context?: Record<string, unknown>) =>
        hostSuite(name, host, context) as unknown) as typeof uvu.suite);
