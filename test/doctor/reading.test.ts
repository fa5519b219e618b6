// Goal: what is read of a host brings no error, no endless wait and no endless text, whatever stands there. Method: real
// files and a real server on a unix socket.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import type { PluginAddress } from '../../src/doctor/checks/plugin.ts';
import { realFiles } from '../../src/doctor/host.ts';
import { activate } from '../../src/doctor/plugin-call.ts';
import { removeFolder, tempFolder } from '../kit/folders.ts';
import { assert, suite } from '../kit/uvu.ts';

interface Context {
  folder: string;
  server: Server | null;
}
const reading = suite<Context>('readings of the doctor');
reading.before.each(context => {
  context.folder = tempFolder();
  context.server = null;
});
reading.after.each(({ folder, server }) => {
  server?.close();
  server?.closeAllConnections();
  removeFolder(folder);
});

reading('files: are read up to a bound; what is no file, or not there, has no text', async ({ folder }) => {
  const at = (name: string) => join(folder, name);
  writeFileSync(at('text'), 'a\n');
  writeFileSync(at('long'), 'x'.repeat(3 * 1024 * 1024));
  mkdirSync(at('folder'));
  execFileSync('mkfifo', [at('pipe')]);
  symlinkSync('text', at('link'));
  chmodSync(at('text'), 0o640);
  assert.is(await realFiles.text(at('text')), 'a\n');
  assert.is(await realFiles.text(at('link')), 'a\n');
  assert.is((await realFiles.text(at('long')))?.length, 2 * 1024 * 1024);
  assert.ok((await realFiles.text('/proc/self/status'))?.includes('Pid:'));
  for (const name of ['folder', 'pipe']) assert.is((await realFiles.text(at(name))) ?? '', '', name);
  assert.is(await realFiles.text(at('none')), null);
  assert.equal(await realFiles.names(folder), ['folder', 'link', 'long', 'pipe', 'text']);
  assert.equal(await realFiles.names(at('none')), []);
  assert.is(await realFiles.link(at('link')), 'text');
  assert.is(await realFiles.link(at('text')), null);
  const shown = await realFiles.stat(at('link'));
  assert.equal([shown?.kind, shown?.mode], ['file', 0o640]);
  const kinds = ['folder', 'pipe', 'none'].map(async name => (await realFiles.stat(at(name)))?.kind);
  assert.equal(await Promise.all(kinds), ['folder', 'other', undefined]);
});

const plugin = (url: string): PluginAddress => ({ path: '/x', url, tls: null });
async function serving(context: Context, answer: (path: string) => string | null): Promise<PluginAddress> {
  const path = join(context.folder, 's');
  context.server = createServer((request, response) => {
    const text = answer(`${request.method} ${request.url}`);
    if (text === null) request.socket.destroy();
    else response.end(text);
  });
  await new Promise<void>(resolve => context.server?.listen(path, resolve));
  return plugin(`unix://${path}`);
}

reading('a plugin: is asked as Docker asks it', async context => {
  const said = await activate(await serving(context, asked => asked));
  assert.equal(said, { status: 200, text: 'POST /Plugin.Activate' });
});

reading('a plugin that breaks off, says too much, or is not there: has a reason', async context => {
  assert.ok('why' in (await activate(await serving(context, () => null))));
  context.server?.close();
  const long = join(context.folder, 'none');
  const away = await activate(plugin(`unix://${long}`));
  assert.equal(away, { why: 'ENOENT' });
});

reading(
  'a plugin whose spec names no file, or a pipe: is not asked, and the file is named',
  async ({ folder }) => {
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    const none = { ca: null, cert: null, key: null };
    for (const [name, path] of [
      ['ca', '/none'],
      ['cert', pipe],
      ['key', folder],
    ] as const) {
      const tls = { ...none, [name]: path };
      assert.equal(await activate({ path: '/x', url: 'https://127.0.0.1:1', tls }), { unread: path });
    }
  },
);

reading('a plugin with an answer without end: has a reason', async context => {
  const endless = await activate(await serving(context, () => 'x'.repeat(100_000)));
  assert.equal(endless, { why: 'the answer is too long' });
});
reading.run();
