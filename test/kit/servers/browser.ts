/** The real Chromium, without a window: it opens a page, and shows what became of it. */
import { createServer, request } from 'node:http';
import { removeFolder, tempFolder } from '../folders.ts';
import { runProgram } from './process.ts';

/** In the page's own time, which stands still while it loads. */
const PAGE_MS = 10_000;

/** Opens the address; returns the text of the page when it is at rest. `names`: host names, each with its address. */
export async function browse(url: string, names: Readonly<Record<string, string>> = {}): Promise<string> {
  const folder = tempFolder();
  const rules = Object.entries(names).map(([name, address]) => `MAP ${name} ${address}`);
  try {
    const { code, stdout, stderr } = await runProgram('chromium', [
      '--headless',
      '--no-sandbox', // it does not start as root otherwise
      '--disable-gpu',
      `--user-data-dir=${folder}`,
      `--host-resolver-rules=${rules.join()}`,
      `--virtual-time-budget=${PAGE_MS}`,
      '--dump-dom',
      url,
    ]);
    if (code !== 0) throw new Error(`chromium: ${code} ${stderr}`);
    return stdout;
  } finally {
    removeFolder(folder);
  }
}

export interface Stranger {
  readonly port: number;
  close(): void;
}
/** A server of a stranger's that has the page at /page. All else that comes it hands on as it is to the port of
 *  `rebound` on 127.0.0.1, as if its name had been given that address meanwhile; without one it has nothing else. */
export async function startStranger(
  at: { readonly address: string; readonly port: number },
  page: string,
  rebound: number | null = null,
): Promise<Stranger> {
  const server = createServer((asked, answer) => {
    if (asked.url === '/page') {
      answer.setHeader('content-type', 'text/html');
      answer.end(page);
    } else if (rebound === null) {
      answer.writeHead(404).end();
    } else {
      const { method = '', url: path = '', rawHeaders } = asked;
      const to = { host: '127.0.0.1', port: rebound, method, path, headers: rawHeaders };
      asked.pipe(
        request(to, theirs => {
          answer.writeHead(theirs.statusCode ?? 500, theirs.headers);
          theirs.pipe(answer);
        }),
      );
    }
  });
  await new Promise<void>(resolve => server.listen(at.port, at.address, resolve));
  const bound = server.address();
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : at.port,
    close() {
      server.close();
      server.closeAllConnections();
    },
  };
}
