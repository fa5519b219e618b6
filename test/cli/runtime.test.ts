import { runtimeName, unsupportedRuntime } from '../../src/cli/runtime.ts';
import { assert, suite } from '../kit/uvu.ts';

const runtime = suite('runtime');
const rows: [versions: Record<string, string>, name: string, fits: boolean][] = [
  [{ node: '20.20.2' }, 'node 20.20.2', false],
  [{ node: '22.17.1' }, 'node 22.17.1', false],
  [{ node: '22.18.0' }, 'node 22.18.0', true],
  [{ node: '24.0.1' }, 'node 24.0.1', true],
  [{ node: '20.1.0', bun: '1.4.5' }, 'bun 1.4.5', true],
  [{ node: '20.1.0', deno: '2.9.6' }, 'deno 2.9.6', true],
];
for (const [versions, name, fits] of rows)
  runtime(`${name}: ${fits ? 'is fit' : 'is told what to use instead'}`, () => {
    assert.is(runtimeName(versions), name);
    const line = unsupportedRuntime(versions);
    if (fits) assert.is(line, null);
    else assert.is(line, `ec2-ipam: this is ${name}; use Node 22.18 or later, Bun or Deno`);
  });
runtime.run();
