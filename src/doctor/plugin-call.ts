/** Sends Plugin.Activate, as Docker does. */
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import type { Activated, PluginAddress } from './checks/plugin.ts';
import { realFiles } from './host.ts';

const ANSWER_MS_MAX = 10_000;
const ANSWER_CHARS_MAX = 65_536;

/** Never throws. */
export const activate = async ({ url, tls }: PluginAddress): Promise<Activated> => {
  try {
    const pems = await pemsOf(tls);
    return 'unread' in pems ? pems : await exchange(url, pems);
  } catch (error) {
    const { code, message } = error as { code?: string; message?: string };
    return { why: code ?? message ?? 'it cannot be reached' };
  }
};

interface Pems {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
}

/** Reads the files that a spec names. `unread`: one that cannot be read, or that is a pipe and would keep its reader
 *  waiting. */
async function pemsOf(tls: PluginAddress['tls']): Promise<Pems | { readonly unread: string }> {
  const pems: { ca?: string; cert?: string; key?: string } = {};
  for (const name of ['ca', 'cert', 'key'] as const) {
    const path = tls?.[name] ?? null;
    if (path === null) continue;
    const text = await realFiles.text(path);
    if (text === null || text === '') return { unread: path };
    pems[name] = text;
  }
  return pems;
}

const exchange = (url: string, pems: Pems): Promise<Activated> =>
  new Promise((resolve, reject) => {
    const options = { method: 'POST', agent: false as const, headers: { 'content-length': 0 } };
    const answered = (response: IncomingMessage) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
        if (text.length <= ANSWER_CHARS_MAX) return;
        reject(new Error('the answer is too long')); // on Bun and Deno the end of a long answer may come all the same
        sent.destroy();
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    };
    const path = '/Plugin.Activate';
    const sent = url.startsWith('unix://')
      ? requestHttp({ ...options, socketPath: url.slice('unix://'.length), path }, answered)
      : url.startsWith('https:')
        ? requestHttps(
            `${url}${path}`,
            // Docker does not check the server's certificate where the spec names no authority.
            { ...options, ...pems, rejectUnauthorized: pems.ca !== undefined },
            answered,
          )
        : requestHttp(`${url}${path}`, options, answered);
    const timer = setTimeout(
      () => sent.destroy(new Error(`no answer within ${ANSWER_MS_MAX / 1000} s`)),
      ANSWER_MS_MAX,
    );
    sent.on('error', reject);
    sent.on('close', () => {
      clearTimeout(timer);
      reject(new Error('the connection was lost'));
    });
    sent.end();
  });
