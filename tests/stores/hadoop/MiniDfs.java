import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.InterruptedIOException;
import org.apache.hadoop.conf.Configuration;
import org.apache.hadoop.hdfs.MiniDFSCluster;
import org.apache.hadoop.hdfs.server.datanode.DataNodeFaultInjector;

/**
 * HDFS with one data node, until standard input ends: MiniDfs FOLDER PORT. A line `stop` stops the data node, any other
 * one starts it again.
 */
public final class MiniDfs {
  public static void main(String[] arguments) throws Exception {
    Configuration configuration = new Configuration();
    configuration.setBoolean("dfs.permissions.enabled", false);
    DataNodeFaultInjector.set(new LateLastAnswer());
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

  /**
   * The name node hears of a block before its writer asks it to close the file. A writer that is quicker asks again after
   * half a second, which would be most of the time that the tests take.
   */
  private static final class LateLastAnswer extends DataNodeFaultInjector {
    @Override
    public void delayAckLastPacket() throws IOException {
      try {
        Thread.sleep(20);
      } catch (InterruptedException interrupted) {
        Thread.currentThread().interrupt();
        throw new InterruptedIOException("stopped before the last answer");
      }
    }
  }
}
