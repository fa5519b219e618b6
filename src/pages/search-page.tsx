/** What a search has found. */
import type { SearchView } from '../views/search.ts';
import { Address, Eni, Name, Table } from './parts.tsx';

export const SearchPage = ({ view: { query, found, hasMore } }: { view: SearchView }) => (
  <>
    <h1>Search</h1>
    {query === '' ? (
      <p>Search for an address, an ENI, an instance, a subnet, or the name of a container.</p>
    ) : found.length === 0 ? (
      <p>
        Nothing is found for <Name text={query} />.
      </p>
    ) : (
      <Table what="Found" head={['found', 'name', 'address', 'ENI', 'instance', 'on the map']}>
        {found.map(({ kind, name, subnet, address, eni, instance }) => (
          <tr>
            <td>{kind}</td>
            <th scope="row">
              <Name text={name} />
            </th>
            <td>
              <Address subnet={subnet} address={address} />
            </td>
            <td>
              <Eni id={eni} />
            </td>
            <td class="mono">{instance ?? '–'}</td>
            <td>
              {subnet === null ? (
                '–'
              ) : (
                <a href={`/subnets/${subnet}${address === null ? '' : `?at=${address}`}`}>
                  {address === null ? 'the subnet' : 'show it'}
                </a>
              )}
            </td>
          </tr>
        ))}
      </Table>
    )}
    {hasMore ? <p>There are more: search for a longer part of the name.</p> : null}
  </>
);
