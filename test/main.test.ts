// Goal: what nobody caught ends the process in a line. Method: a command from source that fails where nobody looks, in
// processes of its own.
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { runProgram } from './kit/servers/process.ts';
import { assert, suite } from './kit/uvu.ts';

const UNCAUGHT = fileURLToPath(new URL('./uncaught-once.ts', import.meta.url));
const program = 'Deno' in globalThis ? ['run', '-A'] : [];
const uncaught = suite('what nobody caught');

for (const [what, kind] of Object.entries({ 'an exception': 'throw', 'a rejection': 'reject' }))
  uncaught(`${what}: ends the process with status 1, in one line`, async () => {
    const env = { HOME: process.env.HOME ?? '', NO_COLOR: '1' };
    const { code, stderr } = await runProgram(process.execPath, [...program, UNCAUGHT, kind], { env });
    const line = 'ec2-ipam: internal error: nobody caught this; --log-level debug shows where\n';
    assert.equal([code, stderr], [1, line]);
  });
uncaught.run();
