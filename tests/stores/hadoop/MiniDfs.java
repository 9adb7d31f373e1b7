import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;

/**
 * HDFS with one data node, until standard input ends: MiniDfs FOLDER PORT. A line `stop` stops the data node, any other
 * one starts it again.
 */
public final class MiniDfs {
  public static void main(String[] arguments) throws Exception {
    Configuration configuration = new Configuration();
    configuration.setBoolean("dfs.permissions.enabled", false);
    MiniDFSCluster cluster =
        new MiniDFSCluster.Builder(configuration, new File(arguments[0]))
            .nameNodePort(Integer.parseInt(arguments[1]))
            .numDataNodes(1)
            .format(true)
            .build();
    cluster.waitActive();
    System.out.println("READY " + cluster.getURI());
    BufferedReader orders = new BufferedReader(new InputStreamReader(System.in));
    MiniDFSCluster.DataNodeProperties stopped = null;
    for (String order = orders.readLine(); order != null; order = orders.readLine()) {
      if (order.equals("stop")) {
        stopped = cluster.stopDataNode(0);
      } else {
        cluster.restartDataNode(stopped, true);
        cluster.waitActive();
      }
      System.out.println("DONE");
    }
    cluster.shutdown();
  }
}
